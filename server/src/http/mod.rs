//! The least of HTTP/1.1 that monitors need: GET, one answer, close.

mod metrics;

use crate::cli::words::complain;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

pub(crate) use metrics::Metrics;

/// The longest request taken, in bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// How long a request and its answer may take.
const EXCHANGE_MAX: Duration = Duration::from_secs(5);
/// Requests answered at once.
const CONNECTIONS_MAX: usize = 32;
/// How long accepting rests after the system refused.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) code: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

/// Serves until the runtime ends. `answer` may read the disk.
pub(crate) async fn serve<F>(listener: TcpListener, answer: F)
where
    F: Fn(&str) -> Page + Send + Sync + 'static,
{
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            complain!("/health and /metrics are not served: {error}");
            return;
        }
    };
    let answer = Arc::new(answer);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Beyond the bound: closed at once.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            continue;
        };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let _slot = slot;
            // A caller that is slow or gone concerns nobody else.
            let _ = tokio::time::timeout(EXCHANGE_MAX, exchange(stream, answer)).await;
        });
    }
}

async fn exchange<F>(mut stream: TcpStream, answer: Arc<F>) -> io::Result<()>
where
    F: Fn(&str) -> Page + Send + Sync + 'static,
{
    let plain = |code, body: &str| Page {
        code,
        kind: "text/plain; charset=utf-8",
        body: body.to_owned(),
    };
    let (page, with_body) = match read_head(&mut stream).await?.as_deref().map(parse) {
        None => (plain(431, "request too large\n"), true),
        Some(Request::Malformed) => (plain(400, "not an HTTP request\n"), true),
        Some(Request::OtherMethod) => (plain(405, "GET only\n"), true),
        Some(Request::Get { path, with_body }) => {
            let page = tokio::task::spawn_blocking(move || answer(&path)).await;
            (page.unwrap_or_else(|_| plain(500, "failed\n")), with_body)
        }
    };
    let Page { code, kind, body } = page;
    let reason = match code {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let length = body.len();
    let mut bytes = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    if with_body {
        bytes.push_str(&body);
    }
    stream.write_all(bytes.as_bytes()).await?;
    stream.shutdown().await
}

/// Everything up to the empty line; `None` when that is too much.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(512);
    let mut chunk = [0; 512];
    loop {
        let count = stream.read(&mut chunk).await?;
        head.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if head.windows(4).any(|window| window == b"\r\n\r\n") || count == 0 {
            return Ok(Some(head));
        }
        if head.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Get { path: String, with_body: bool },
    OtherMethod,
    Malformed,
}

fn parse(head: &[u8]) -> Request {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else {
        return Request::Malformed;
    };
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Request::Malformed;
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Request::Malformed;
    }
    let path = target.split('?').next().unwrap_or_default().to_owned();
    match method {
        "GET" => Request::Get {
            path,
            with_body: true,
        },
        "HEAD" => Request::Get {
            path,
            with_body: false,
        },
        _ => Request::OtherMethod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let get = |path: &str, with_body| Request::Get {
            path: path.to_owned(),
            with_body,
        };
        assert_eq!(
            parse(b"GET /health?x=1 HTTP/1.1\r\n\r\n"),
            get("/health", true)
        );
        assert_eq!(parse(b"HEAD / HTTP/1.0\r\n\r\n"), get("/", false));
        assert_eq!(
            parse(b"POST /health HTTP/1.1\r\n\r\n"),
            Request::OtherMethod
        );
        for bad in [
            &b""[..],
            b"\xff\xfe",
            b"GET",
            b"GET / FTP/1",
            b"GET  / HTTP/1.1",
            b"GET x HTTP/1.1",
        ] {
            assert_eq!(parse(bad), Request::Malformed, "{bad:?}");
        }
    }

    async fn ask(address: std::net::SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn pages_are_served_and_floods_are_cut_short() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, |path: &str| Page {
            code: if path == "/health" { 200 } else { 404 },
            kind: "text/plain",
            body: path.to_owned(),
        }));
        let answer = ask(address, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n/health"), "{answer}");
        let answer = ask(address, b"GET /x HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let flood = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'a'; 8705 - 19]].concat();
        let answer = ask(address, &flood).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
