//! Embeds the web page: what `web/dist` holds when the server is built, or nothing, which the page then says.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate lies"));
    let dist = root.join("../../web/dist");
    // Cargo takes what is missing for changed, every time: there is always a folder to look into.
    let _ = fs::create_dir_all(&dist);
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed=build.rs");
    let index = dist.join("index.html");
    let mut generated = if index.is_file() {
        format!("/// The page itself.\nconst INDEX: Option<&str> = Some(include_str!({index:?}));\n")
    } else {
        "/// No page was built.\nconst INDEX: Option<&str> = None;\n".to_owned()
    };
    let mut files = Vec::new();
    find(&dist, &mut files)?;
    files.sort();
    generated.push_str("/// What the page loads.\nconst FILES: &[File] = &[\n");
    for gzip in files {
        let name = gzip.strip_prefix(&dist).expect("it was found there").with_extension("");
        let brotli = gzip.with_extension("br");
        let name = name.to_string_lossy().replace('\\', "/");
        writeln!(generated, "    File {{ name: {name:?}, brotli: include_bytes!({brotli:?}), gzip: include_bytes!({gzip:?}) }},")
            .map_err(io::Error::other)?;
    }
    generated.push_str("];\n");
    fs::write(PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write")).join("page.rs"), generated)
}

/// Every packed file below a folder; `web/precompress.mjs` leaves each as `.gz` and `.br`.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "gz") {
            files.push(path);
        }
    }
    Ok(())
}
