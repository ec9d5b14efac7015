//! Who speaks to whom: carried in each call's metadata and checked before a frame is read.

use std::fmt;

use raftwerk::Incarnation;
use raftwerk_raft::NodeId;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// The version of the protocol between members. Another one is refused by name.
pub const PROTOCOL_VERSION: u32 = 1;

const VERSION: &str = "raftwerk-protocol";
const CLUSTER: &str = "raftwerk-cluster";
const FROM: &str = "raftwerk-from";
const TO: &str = "raftwerk-to";
const STORE: &str = "raftwerk-store";
const PEER_URL: &str = "raftwerk-peer-url";
const REFUSAL: &str = "raftwerk-refusal";

/// The longest peer URL taken from a stranger, in bytes.
const PEER_URL_BYTES_MAX: usize = 256;

/// One cluster. Members of another one are refused, whatever their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why a member does not speak with another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The call does not say who it is.
    #[error("call without a valid {field}: this port is for members of a raftwerk cluster only")]
    Malformed {
        /// The metadata field that is missing or unreadable.
        field: &'static str,
    },
    /// Another protocol version.
    #[error("protocol version {theirs} is not spoken here, only {PROTOCOL_VERSION}")]
    Version {
        /// What the other side speaks.
        theirs: u32,
    },
    /// A member of another cluster.
    #[error("this member belongs to cluster {ours}, the caller to {theirs}: check the addresses")]
    Cluster {
        /// The cluster here.
        ours: ClusterId,
        /// The caller's.
        theirs: ClusterId,
    },
    /// The call was meant for another member: two members' addresses are mixed up.
    #[error(
        "this is member {:x}, the call is for member {:x}: check the peer addresses",
        here.0,
        meant.0
    )]
    Misdirected {
        /// The member here.
        here: NodeId,
        /// Whom the caller wanted.
        meant: NodeId,
    },
    /// The id is known with another store: its folder was wiped or replaced, or two processes run
    /// under one id. What the lost store had promised cannot be kept, so it may not come back.
    #[error(
        "member {:x} is known with another store (its folder was wiped or replaced, or a second \
         process uses its id): remove it from the cluster and add it again as a new member",
        id.0
    )]
    Replaced {
        /// The id in question.
        id: NodeId,
    },
    /// The member has been removed.
    #[error(
        "member {:x} has been removed from the cluster: stop it, or add it as a new member",
        id.0
    )]
    Removed {
        /// The id in question.
        id: NodeId,
    },
    /// Anything that a newer member says and this version has no word for.
    #[error("{reason}")]
    Other {
        /// What the other side said.
        reason: String,
    },
}

impl Refusal {
    const fn word(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Version { .. } => "version",
            Self::Cluster { .. } => "cluster",
            Self::Misdirected { .. } => "misdirected",
            Self::Replaced { .. } => "replaced",
            Self::Removed { .. } => "removed",
            Self::Other { .. } => "other",
        }
    }

    /// The answer to the caller.
    pub(crate) fn to_status(&self) -> Status {
        let mut metadata = MetadataMap::new();
        metadata.insert(REFUSAL, MetadataValue::from_static(self.word()));
        let code = match self {
            Self::Malformed { .. } => Code::InvalidArgument,
            Self::Version { .. } => Code::FailedPrecondition,
            _ => Code::PermissionDenied,
        };
        Status::with_metadata(code, self.to_string(), metadata)
    }

    /// What a refused caller learns about itself, member `id`; `None` when the call failed for
    /// another reason than a refusal.
    pub(crate) fn from_status(id: NodeId, status: &Status) -> Option<Self> {
        let word = status.metadata().get(REFUSAL)?.to_str().ok()?;
        Some(match word {
            "replaced" => Self::Replaced { id },
            "removed" => Self::Removed { id },
            _ => Self::Other {
                reason: status.message().to_owned(),
            },
        })
    }
}

/// What one side says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) cluster: ClusterId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) store: Incarnation,
    /// Where the sender can be called back.
    pub(crate) peer_url: Option<String>,
}

impl Hello {
    pub(crate) fn write(&self, metadata: &mut MetadataMap) {
        let mut put = |key: &'static str, value: String| {
            if let Ok(value) = value.parse::<MetadataValue<Ascii>>() {
                metadata.insert(key, value);
            }
        };
        put(VERSION, PROTOCOL_VERSION.to_string());
        put(CLUSTER, self.cluster.to_string());
        put(FROM, self.from.to_string());
        put(TO, self.to.to_string());
        put(STORE, format!("{:032x}", self.store.0));
        if let Some(url) = &self.peer_url {
            put(PEER_URL, url.clone());
        }
    }

    /// # Errors
    /// [`Refusal::Version`] first (another version may word the rest differently), then
    /// [`Refusal::Malformed`].
    pub(crate) fn read(metadata: &MetadataMap) -> Result<Self, Refusal> {
        let theirs = number(metadata, VERSION, 10)?;
        if theirs != u128::from(PROTOCOL_VERSION) {
            return Err(Refusal::Version {
                theirs: u32::try_from(theirs).unwrap_or(u32::MAX),
            });
        }
        let short = |field, radix| {
            let value = number(metadata, field, radix)?;
            u64::try_from(value).map_err(|_| Refusal::Malformed { field })
        };
        let from = NodeId(short(FROM, 10)?);
        if from == NodeId::ZERO {
            return Err(Refusal::Malformed { field: FROM });
        }
        Ok(Self {
            cluster: ClusterId(short(CLUSTER, 16)?),
            from,
            to: NodeId(short(TO, 10)?),
            store: Incarnation(number(metadata, STORE, 16)?),
            peer_url: text(metadata, PEER_URL)
                .filter(|url| url.len() <= PEER_URL_BYTES_MAX)
                .map(str::to_owned),
        })
    }
}

fn text<'a>(metadata: &'a MetadataMap, field: &'static str) -> Option<&'a str> {
    metadata.get(field)?.to_str().ok()
}

fn number(metadata: &MetadataMap, field: &'static str, radix: u32) -> Result<u128, Refusal> {
    let malformed = Refusal::Malformed { field };
    let digits = text(metadata, field).ok_or_else(|| malformed.clone())?;
    // from_str_radix would take a sign.
    if digits.is_empty() || digits.len() > 39 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(malformed);
    }
    u128::from_str_radix(digits, radix).map_err(|_| malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            cluster: ClusterId(0xfeed_0000_0000_0001),
            from: NodeId(3),
            to: NodeId(u64::MAX),
            store: Incarnation(u128::MAX - 4),
            peer_url: Some("http://127.0.0.1:2380".to_owned()),
        }
    }

    #[test]
    fn hello_survives_the_metadata() {
        let mut metadata = MetadataMap::new();
        hello().write(&mut metadata);
        assert_eq!(Hello::read(&metadata), Ok(hello()));
    }

    #[test]
    fn each_missing_or_mangled_field_is_refused_by_name() {
        for field in [VERSION, CLUSTER, FROM, TO, STORE] {
            let mut metadata = MetadataMap::new();
            hello().write(&mut metadata);
            metadata.remove(field);
            assert_eq!(Hello::read(&metadata), Err(Refusal::Malformed { field }));
            for bad in ["", "-1", "+1", "0x10", " 1", &"9".repeat(60)] {
                metadata.insert(field, bad.parse().unwrap());
                assert_eq!(
                    Hello::read(&metadata),
                    Err(Refusal::Malformed { field }),
                    "{bad:?}"
                );
            }
        }
    }

    #[test]
    fn another_version_is_told_before_anything_else_is_read() {
        let mut metadata = MetadataMap::new();
        metadata.insert(VERSION, "2".parse().unwrap());
        assert_eq!(Hello::read(&metadata), Err(Refusal::Version { theirs: 2 }));
    }

    #[test]
    fn refusals_about_the_caller_survive_the_status() {
        let id = NodeId(4);
        for refusal in [Refusal::Replaced { id }, Refusal::Removed { id }] {
            assert_eq!(
                Refusal::from_status(id, &refusal.to_status()),
                Some(refusal)
            );
        }
        assert_eq!(Refusal::from_status(id, &Status::unavailable("down")), None);
    }
}
