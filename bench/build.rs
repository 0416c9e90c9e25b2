//! Compiles the generator's and the sink's programs to BPF objects.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    // Debian and its kin keep asm/types.h in a folder of the architecture; elsewhere the folder does not exist.
    let include = format!("-I/usr/include/{}-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
    for name in ["generator", "sink"] {
        let source = format!("src/{name}.bpf.c");
        SkeletonBuilder::new()
            .source(&source)
            .obj(out.join(format!("{name}.bpf.o")))
            .clang_args([&include])
            .build()
            .map_err(|error| format!("{source} does not compile (clang and Linux headers needed): {error:#}"))?;
        println!("cargo:rerun-if-changed={source}");
    }
    Ok(())
}
