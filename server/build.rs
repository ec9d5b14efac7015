//! Compiles the wire's messages, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "kv.proto",
        "cluster.proto",
        "maintenance.proto",
        "watch.proto",
        "lease.proto",
        "auth.proto",
        "raftwerk_admin.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
