//! Turns `SLUICE_MUTANT` into a cfg: `make crash-mutants` builds stores that break their promises, to show that the crash tests notice.

fn main() {
    println!("cargo::rerun-if-env-changed=SLUICE_MUTANT");
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(mutant) = std::env::var("SLUICE_MUTANT") {
        println!("cargo::warning=this store is broken on purpose: {mutant}");
        println!("cargo::rustc-cfg=sluice_mutant=\"{mutant}\"");
    }
}
