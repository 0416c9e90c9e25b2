//! Compiles the two kernel programs and writes their Rust skeletons.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    // Debian and its kin keep asm/types.h in a folder of the architecture; elsewhere the folder does not exist.
    let include = format!("-I/usr/include/{arch}-linux-gnu");
    for name in ["gate", "host"] {
        let source = format!("src/{name}.bpf.c");
        SkeletonBuilder::new()
            .source(&source)
            .clang_args([&include])
            .build_and_generate(out.join(format!("{name}.skel.rs")))?;
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-changed=src/gate.h");
    Ok(())
}
