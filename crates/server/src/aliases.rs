//! Other paths for the same endpoints: below a prefix, as a reverse proxy or an ad blocker's blind spot asks for, or under another name.

use axum::http::Uri;

/// What paths are read as others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Aliases {
    /// Beginnings that are left out, the longest first.
    prefixes: Vec<String>,
    /// Beginnings that stand for another one.
    names: Vec<(String, &'static str)>,
}

/// A path without doubled and trailing slashes.
fn tidied(path: &str) -> String {
    path.split('/').filter(|piece| !piece.is_empty()).flat_map(|piece| ["/", piece]).collect()
}

/// What follows a beginning, where a path has it; a beginning ends where a piece of the path does.
fn behind<'p>(path: &'p str, beginning: &str) -> Option<&'p str> {
    path.strip_prefix(beginning).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Aliases {
    /// Reads prefixes, and names with the endpoints that they stand for. `own` are the first pieces of the server's paths: none of them can
    /// stand for something else.
    pub(crate) fn new(prefixes: &[String], names: &[(String, &'static str)], own: &[&str]) -> Result<Self, String> {
        let read = |setting: &str, text: &str| {
            let path = tidied(text);
            let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-.~".contains(&byte));
            let first = path.split('/').nth(1).unwrap_or_default();
            match (first, is_plain) {
                ("", _) | (_, false) => Err(format!("{setting}: `{text}` is no path of letters, digits, `-`, `_`, `.` and `~`")),
                (first, true) if own.contains(&first) => Err(format!("{setting}: `{text}` begins as a path that is there already")),
                _ => Ok(path),
            }
        };
        let mut prefixes: Vec<String> = prefixes.iter().map(|text| read("listen.path_prefixes", text)).collect::<Result<_, _>>()?;
        prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
        let given = names.iter().filter(|(text, _)| !text.is_empty());
        let mut names = given.map(|(text, path)| Ok((read("routes", text)?, *path))).collect::<Result<Vec<_>, String>>()?;
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        match names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(format!("routes: `{}` cannot stand for two endpoints", pair[0].0)),
            None => Ok(Self { prefixes, names }),
        }
    }

    /// The URI under the path that the router knows, where it is another: SDKs double slashes and end paths in one, and none follows a
    /// redirect of a POST.
    pub(crate) fn resolve(&self, uri: &Uri) -> Option<Uri> {
        let path = uri.path();
        let is_tidy = !path.contains("//") && (path.len() == 1 || !path.ends_with('/'));
        if is_tidy && self.prefixes.is_empty() && self.names.is_empty() {
            return None;
        }
        let tidy = tidied(path);
        let mut found = self.prefixes.iter().find_map(|prefix| behind(&tidy, prefix)).unwrap_or(&tidy).to_owned();
        if let Some((rest, known)) = self.names.iter().find_map(|(name, known)| Some((behind(&found, name)?, *known))) {
            found = format!("{known}{rest}");
        }
        if found.is_empty() {
            found.push('/');
        }
        if found == path {
            return None;
        }
        if let Some(query) = uri.query() {
            found.push('?');
            found.push_str(query);
        }
        found.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(prefixes: &[&str], names: &[(&str, &'static str)]) -> Result<Aliases, String> {
        let prefixes: Vec<String> = prefixes.iter().map(|text| (*text).to_owned()).collect();
        let names: Vec<(String, &'static str)> = names.iter().map(|(text, path)| ((*text).to_owned(), *path)).collect();
        Aliases::new(&prefixes, &names, &["own"])
    }

    #[track_caller]
    fn check(aliases: &Aliases, cases: &[(&str, &str)]) {
        for (sent, expected) in cases {
            let uri: Uri = sent.parse().unwrap();
            let found = aliases.resolve(&uri).unwrap_or(uri);
            assert_eq!(found.path_and_query().unwrap().as_str(), *expected, "{sent}");
        }
    }

    #[test]
    fn slashes_are_tidied() {
        let none = Aliases::default();
        check(&none, &[("/a", "/a"), ("/a/", "/a"), ("//a//b/?c=//", "/a/b?c=//"), ("/", "/"), ("//", "/"), ("http://h/a/", "/a")]);
        assert_eq!(none.resolve(&"/a?b=/".parse().unwrap()), None);
    }

    #[test]
    fn prefixes_and_names_stand_for_paths() {
        let some = aliases(&["_mp/api/", "/_mp"], &[("e", "/own"), ("/a/b", "/own/deep"), ("", "/own")]).unwrap();
        let cases = [
            ("/_mp/api/own/", "/own"),
            ("/_mp/own?x=1", "/own?x=1"),
            ("/_mp/api", "/"),
            ("/_mpx/own", "/_mpx/own"),
            ("/e", "/own"),
            ("/e/f", "/own/f"),
            ("/ef", "/ef"),
            ("/_mp//e/", "/own"),
            ("/a/b", "/own/deep"),
            ("/a/bc", "/a/bc"),
            ("/own", "/own"),
        ];
        check(&some, &cases);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for refused in ["", "/", "a b", "a?b", "é", "own", "/own/x", "%41"] {
            assert!(aliases(&[refused], &[]).is_err(), "{refused}");
        }
        assert!(aliases(&[], &[("own/x", "/own")]).is_err());
        assert!(aliases(&[], &[("x", "/own"), ("/x/", "/other")]).is_err());
    }
}
