//! Turns `SLUICE_MUTANT` into a cfg: `make bench` builds a server that checks no signature, to show what the check costs.

fn main() {
    println!("cargo::rerun-if-env-changed=SLUICE_MUTANT");
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(mutant) = std::env::var("SLUICE_MUTANT") {
        println!("cargo::warning=this server is broken on purpose: {mutant}");
        println!("cargo::rustc-cfg=sluice_mutant=\"{mutant}\"");
    }
}
