//! The invariants of the house that a compiler does not hold (ARCHITECTURE.md names them).
//! Each check returns one line per breach: `file:line: what is wrong, and where it belongs`.

use std::fs;
use std::path::{Path, PathBuf};

/// The text of every file that the checks look at.
pub struct House {
    files: Vec<File>,
}

struct File {
    /// Path from the root, with `/`.
    path: String,
    text: String,
}

/// A check over the whole house.
pub type Check = fn(&House) -> Vec<String>;

/// Every invariant with the fact it holds.
pub const INVARIANTS: &[(&str, Check)] = &[
    ("the ladder goes down only", ladder),
    ("model has no runtime, no JSON and no clock", model_is_pure),
    ("JSON lives in wire and server", json_at_the_edge),
    ("SQL lives in metastore", sql_in_metastore),
    ("URL paths live in routes.rs", urls_in_routes),
    ("the environment is read in config.rs", environment_in_config),
    ("column names live in schema.rs", columns_in_schema),
    ("object paths live in paths.rs", objects_in_paths),
    ("every read handler takes its access first", reads_take_access),
    ("every read of store takes a project first", store_reads_take_a_project),
    ("every dependency says what it is for", dependencies_have_reasons),
    ("every dependency of the page says what it is for", page_dependencies_have_reasons),
    ("the page speaks through its client and keeps nothing", page_speaks_through_its_client),
    ("every file opens with its promise", files_open_with_a_promise),
    ("nothing is left unfinished", nothing_unfinished),
    ("no path of a machine is written down", no_machine_paths),
    ("documents link to files that exist", links_resolve),
];

impl House {
    /// Reads the repository around this crate.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies inside the root");
        let mut files = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
                if path.is_dir() {
                    if !matches!(name.as_str(), ".git" | "target" | "node_modules" | ".venv" | "dist" | "data" | "__pycache__") {
                        folders.push(path);
                    }
                } else if let Some(file) = File::read(root, &path) {
                    files.push(file);
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// Source files below `crates/`, without tests.
    fn sources(&self) -> impl Iterator<Item = &File> {
        self.rust().filter(|file| file.path.starts_with("crates/") && file.path.contains("/src/") && !file.path.ends_with("tests.rs"))
    }
}

impl File {
    fn read(root: &Path, path: &PathBuf) -> Option<Self> {
        let kinds = ["rs", "toml", "md", "sh", "sql", "py", "mjs", "json", "service", "ts", "tsx"];
        let kind = path.extension().map(|kind| kind.to_string_lossy().into_owned()).unwrap_or_default();
        let name = path.file_name()?.to_string_lossy().into_owned();
        if !kinds.contains(&kind.as_str()) && name != "Makefile" {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        Some(Self { path: path.strip_prefix(root).ok()?.to_string_lossy().replace('\\', "/"), text })
    }

    /// Lines with their numbers, comments and everything behind the first `#[cfg(test)]` left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(at, line)| (at + 1, line))
    }

    fn find(&self, wanted: impl Fn(&str) -> bool, why: &str) -> Vec<String> {
        self.code().filter(|(_, line)| wanted(line)).map(|(at, _)| format!("{}:{at}: {why}", self.path)).collect()
    }
}

fn ladder(house: &House) -> Vec<String> {
    let below: &[(&str, &[&str])] = &[
        ("model", &[]),
        ("wire", &["model"]),
        ("metastore", &["model"]),
        ("store", &["model", "metastore"]),
        ("query", &["model", "metastore", "store"]),
        ("server", &["model", "wire", "metastore", "store", "query", "sql"]),
        ("sql", &["model", "metastore", "store", "query"]),
    ];
    let crates: Vec<&str> = below.iter().map(|(name, _)| *name).collect();
    let mut broken = Vec::new();
    for (name, allowed) in below {
        let path = format!("crates/{name}/Cargo.toml");
        let Some(file) = house.files.iter().find(|file| file.path == path) else { continue };
        for (at, line) in file.text.lines().enumerate() {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if crates.contains(&dependency) && !allowed.contains(&dependency) {
                broken.push(format!("{path}:{}: `{name}` may not depend on `{dependency}`", at + 1));
            }
        }
    }
    broken
}

fn model_is_pure(house: &House) -> Vec<String> {
    let banned = ["tokio", "serde_json", "SystemTime", "Instant::now", "Timestamp::now", "Zoned::now", "std::fs", "std::net"];
    let model = house.files.iter().filter(|file| file.path.starts_with("crates/model/"));
    model
        .flat_map(|file| file.find(|line| banned.iter().any(|word| line.contains(word)), "model has no I/O, no JSON and no clock"))
        .collect()
}

fn json_at_the_edge(house: &House) -> Vec<String> {
    let inner = ["crates/model/", "crates/metastore/", "crates/store/", "crates/query/"];
    let files = house.files.iter().filter(|file| inner.iter().any(|prefix| file.path.starts_with(prefix)));
    files.flat_map(|file| file.find(|line| line.contains("serde_json"), "JSON lives in `wire` and in `server`")).collect()
}

fn sql_in_metastore(house: &House) -> Vec<String> {
    let verbs = ["SELECT ", "INSERT INTO ", "DELETE FROM ", "CREATE TABLE ", "UPDATE "];
    let files = house.sources().filter(|file| !file.path.starts_with("crates/metastore/"));
    files.flat_map(|file| file.find(|line| verbs.iter().any(|verb| line.contains(verb)), "SQL text belongs to `metastore`")).collect()
}

fn urls_in_routes(house: &House) -> Vec<String> {
    let roots =
        ["track", "engage", "groups", "import", "api/", "flags", "settings", "decide", "record", "health", "metrics", "setup", "admin"];
    let is_path = |line: &str| roots.iter().any(|root| line.contains(&format!("\"/{root}")));
    let files = house.sources().filter(|file| file.path.starts_with("crates/") && file.path != "crates/server/src/routes.rs");
    files.flat_map(|file| file.find(is_path, "URL paths belong to crates/server/src/routes.rs")).collect()
}

fn environment_in_config(house: &House) -> Vec<String> {
    let files = house.sources().filter(|file| file.path != "crates/server/src/config.rs");
    files.flat_map(|file| file.find(|line| line.contains("env::var"), "the environment is read in crates/server/src/config.rs")).collect()
}

fn columns_in_schema(house: &House) -> Vec<String> {
    let columns = ["\"insert_id\"", "\"distinct_id\"", "\"received_at\"", "\"authenticated\"", "\"identity_seq\""];
    let files = house.sources().filter(|file| file.path.starts_with("crates/store/") && file.path != "crates/store/src/schema.rs");
    files
        .flat_map(|file| file.find(|line| columns.iter().any(|column| line.contains(column)), "column names belong to schema.rs"))
        .collect()
}

fn objects_in_paths(house: &House) -> Vec<String> {
    let endings = [".parquet\"", ".profiles\"", ".keys\"", ".superseded\""];
    let files = house.sources().filter(|file| file.path.starts_with("crates/store/") && file.path != "crates/store/src/paths.rs");
    files.flat_map(|file| file.find(|line| endings.iter().any(|ending| line.contains(ending)), "object paths belong to paths.rs")).collect()
}

fn reads_take_access(house: &House) -> Vec<String> {
    let Some(file) = house.files.iter().find(|file| file.path == "crates/server/src/reports.rs") else {
        return vec!["crates/server/src/reports.rs: the read handlers are gone".to_owned()];
    };
    let code: Vec<(usize, &str)> = file.code().collect();
    let handlers = code.windows(2).filter(|pair| pair[0].1.starts_with("pub async fn "));
    handlers
        .filter(|pair| !pair[0].1.contains("access: ReadAccess") && !pair[1].1.contains("access: ReadAccess"))
        .map(|pair| format!("{}:{}: a read handler takes `access: ReadAccess` first", file.path, pair[0].0))
        .collect()
}

fn store_reads_take_a_project(house: &House) -> Vec<String> {
    let reads = ["pub fn snapshot(", "pub async fn append(", "pub async fn append_profiles("];
    let files = house.sources().filter(|file| file.path.starts_with("crates/store/src/") && !file.path.ends_with("/log.rs"));
    files
        .flat_map(|file| {
            let code: Vec<(usize, &str)> = file.code().collect();
            let mut broken = Vec::new();
            for (index, (at, line)) in code.iter().enumerate() {
                if reads.iter().any(|read| line.contains(read)) {
                    let signature: String = code[index..].iter().take(3).map(|(_, line)| *line).collect();
                    if !signature.contains("ProjectId") {
                        broken.push(format!("{}:{at}: takes a `ProjectId` first", file.path));
                    }
                }
            }
            broken
        })
        .collect()
}

fn dependencies_have_reasons(house: &House) -> Vec<String> {
    let Some(file) = house.files.iter().find(|file| file.path == "Cargo.toml") else { return vec!["Cargo.toml is gone".to_owned()] };
    let mut broken = Vec::new();
    let (mut inside, mut reason) = (false, false);
    for (at, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if line.starts_with('#') {
            reason = true;
        } else if line.is_empty() {
            reason = false;
        } else if inside {
            let ours = line.contains("path = \"crates/");
            if !ours && !reason {
                broken.push(format!("Cargo.toml:{}: a dependency comes with one line saying what for", at + 1));
            }
            reason = ours;
        }
    }
    broken
}

fn page_dependencies_have_reasons(house: &House) -> Vec<String> {
    let text = |path: &str| house.files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
    let (package, reasons) = (text("web/package.json"), text("web/README.md"));
    let mut inside = false;
    let mut broken = Vec::new();
    for (at, line) in package.lines().enumerate() {
        let Some(name) = line.trim().strip_prefix('"').and_then(|rest| rest.split('"').next()) else { continue };
        if line.ends_with('{') {
            inside = ["dependencies", "devDependencies"].contains(&name);
        } else if inside && !reasons.contains(&format!("`{name}`")) {
            broken.push(format!("web/package.json:{}: `{name}` has no line in web/README.md saying what for", at + 1));
        }
    }
    broken
}

/// Where the examples for others stand, which call the server as others do.
const EXAMPLES: &str = "web/src/pages/start/snippets.ts";

/// The reader of Mixpanel's wire, which our OpenAPI document does not describe.
const REPORTS: &str = "web/src/api/reports.ts";

fn page_speaks_through_its_client(house: &House) -> Vec<String> {
    let kept = ["localStorage", "sessionStorage", "document.cookie", "innerHTML", "InnerHTML"];
    let calls = |line: &str| line.match_indices("fetch(").any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric()));
    let is_page = |file: &&File| {
        let is_source = file.path.starts_with("web/src/") && (file.path.ends_with(".ts") || file.path.ends_with(".tsx"));
        is_source && !file.path.ends_with(".test.ts") && !file.path.ends_with(".d.ts") && ![EXAMPLES, REPORTS].contains(&file.path.as_str())
    };
    let files = house.files.iter().filter(is_page);
    files
        .flat_map(|file| {
            let mut broken = file.find(calls, "the page calls the server through web/src/api");
            broken.extend(file.find(|line| kept.iter().any(|word| line.contains(word)), "the page keeps nothing, and shows text as text"));
            broken
        })
        .collect()
}

fn files_open_with_a_promise(house: &House) -> Vec<String> {
    let files = house.rust().filter(|file| !file.text.starts_with("//!"));
    files.map(|file| format!("{}:1: a file opens with `//!`: what it is and the promise it keeps", file.path)).collect()
}

fn nothing_unfinished(house: &House) -> Vec<String> {
    // Spelled in two halves so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[ig", "nore")];
    let files = house.rust();
    files.flat_map(|file| file.find(|line| words.iter().any(|word| line.contains(word)), "finish it or open an issue")).collect()
}

fn no_machine_paths(house: &House) -> Vec<String> {
    let homes = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")];
    let mut broken = Vec::new();
    for file in &house.files {
        for (at, line) in file.text.lines().enumerate() {
            if homes.iter().any(|home| line.contains(home)) {
                broken.push(format!("{}:{}: a path of a machine", file.path, at + 1));
            }
        }
    }
    broken
}

fn links_resolve(house: &House) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies inside the root");
    let mut broken = Vec::new();
    for file in house.files.iter().filter(|file| file.path.ends_with(".md") && !file.path.starts_with("tests/cases/")) {
        let folder = root.join(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
        for (at, line) in file.text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = link.split('#').next().unwrap_or_default();
                if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                    broken.push(format!("{}:{}: links to `{target}`, which does not exist", file.path, at + 1));
                }
            }
        }
    }
    // ARCHITECTURE.md walks through real files: every path in backticks exists.
    if let Some(file) = house.files.iter().find(|file| file.path == "ARCHITECTURE.md") {
        for (at, line) in file.text.lines().enumerate() {
            for path in line.split('`').skip(1).step_by(2).filter(|word| word.starts_with("crates/") || word.starts_with("tests/")) {
                if !root.join(path).exists() {
                    broken.push(format!("ARCHITECTURE.md:{}: names `{path}`, which does not exist", at + 1));
                }
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_in_order() {
        let house = House::read();
        let broken: Vec<String> =
            INVARIANTS.iter().flat_map(|(fact, check)| check(&house).into_iter().map(move |line| format!("{fact}: {line}"))).collect();
        assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    }

    fn with(path: &str, text: &str) -> House {
        House { files: vec![File { path: path.to_owned(), text: text.to_owned() }] }
    }

    #[test]
    fn each_check_finds_its_breach() {
        assert_eq!(ladder(&with("crates/store/Cargo.toml", "query.workspace = true")).len(), 1);
        assert_eq!(model_is_pure(&with("crates/model/src/a.rs", "use tokio::fs;")).len(), 1);
        assert_eq!(json_at_the_edge(&with("crates/store/src/a.rs", "use serde_json::Value;")).len(), 1);
        assert_eq!(sql_in_metastore(&with("crates/query/src/a.rs", "let q = \"SELECT 1\";")).len(), 1);
        assert_eq!(urls_in_routes(&with("crates/server/src/a.rs", "get(\"/track\")")).len(), 1);
        assert_eq!(environment_in_config(&with("crates/server/src/a.rs", "std::env::var(\"X\")")).len(), 1);
        assert_eq!(columns_in_schema(&with("crates/store/src/a.rs", "column(\"insert_id\")")).len(), 1);
        assert_eq!(objects_in_paths(&with("crates/store/src/a.rs", "format!(\"{id}.parquet\")")).len(), 1);
        assert_eq!(reads_take_access(&with("crates/server/src/reports.rs", "pub async fn export(app: App) {\n}\n")).len(), 1);
        assert_eq!(store_reads_take_a_project(&with("crates/store/src/lib.rs", "pub fn snapshot(&self) {")).len(), 1);
        assert_eq!(dependencies_have_reasons(&with("Cargo.toml", "[workspace.dependencies]\n\nserde = \"1\"")).len(), 1);
        assert_eq!(page_dependencies_have_reasons(&with("web/package.json", "  \"dependencies\": {\n    \"react\": \"1\"")).len(), 1);
        assert_eq!(page_speaks_through_its_client(&with("web/src/a.tsx", "await fetch('/x');\nquery.refetch();\nlocalStorage.x")).len(), 2);
        assert_eq!(files_open_with_a_promise(&with("crates/a/src/a.rs", "fn a() {}")).len(), 1);
        assert_eq!(nothing_unfinished(&with("crates/a/src/a.rs", concat!("todo", "!()"))).len(), 1);
        assert_eq!(no_machine_paths(&with("README.md", concat!("/ro", "ot/x"))).len(), 1);
        assert_eq!(links_resolve(&with("README.md", "[gone](docs/gone.md)")).len(), 1);
    }
}
