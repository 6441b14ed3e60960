//! Rust source as the checks read it: without comments and strings, as paths and modules.
//!
//! A coarse reader, not a parser: it knows enough of the language to see what a file names.

use std::{fs, path::Path};

/// One file.
pub(crate) struct Source {
    /// From the root of the repository.
    pub(crate) path: String,
    /// The text with string and character literals blanked out.
    pub(crate) prose: String,
    /// The text with those and the comments blanked out.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let mut source =
            Source { path: path.to_owned(), prose: String::new(), code: String::new() };
        let mut rest = text;
        while !rest.is_empty() {
            let (kind, len) = next_piece(rest, source.code.ends_with(is_word));
            let (piece, after) = rest.split_at(len);
            push(&mut source.prose, piece, kind != Kind::Literal);
            push(&mut source.code, piece, kind == Kind::Code);
            rest = after;
        }
        source
    }

    /// All Rust files under `folder`, which may be absent.
    pub(crate) fn all_under(folder: &str) -> Vec<Source> {
        let mut files = Vec::new();
        list(folder, &mut files);
        files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
        files.sort();
        files.iter().map(|path| Source::read(path)).collect()
    }

    /// Files of the pages, all of whose text is prose.
    pub(crate) fn pages_under(folder: &str) -> Vec<Source> {
        let mut files = Vec::new();
        list(folder, &mut files);
        files.sort();
        let plain = |path: &std::path::PathBuf| {
            let text = fs::read_to_string(root().join(path)).expect("sources are readable UTF-8");
            let path = path.to_string_lossy().into_owned();
            Source { path, prose: text.clone(), code: text }
        };
        files.iter().map(plain).collect()
    }

    fn read(path: &Path) -> Source {
        let text = fs::read_to_string(root().join(path)).expect("sources are readable UTF-8");
        Source::new(&path.to_string_lossy(), &text)
    }

    /// The room that the file stands in: the first part of its module path.
    pub(crate) fn room(&self) -> String {
        self.module_path().into_iter().next().unwrap_or_default()
    }

    /// Empty for the root of the library; `main` for that of the program.
    pub(crate) fn module_path(&self) -> Vec<String> {
        let inside = self.path.split_once("src/").map_or(&self.path[..], |(_, inside)| inside);
        let inside = inside.strip_suffix(".rs").unwrap_or(inside);
        let parts = inside.split('/').filter(|&part| part != "mod" && part != "lib");
        parts.map(str::to_owned).collect()
    }

    pub(crate) fn tokens(&self) -> Vec<Token<'_>> {
        let mut tokens = Vec::new();
        for (line, text) in (1..).zip(self.code.lines()) {
            let mut rest = text.trim_start();
            while let Some(first) = rest.chars().next() {
                let len = match first {
                    _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                    ':' if rest.starts_with("::") => 2,
                    _ => first.len_utf8(),
                };
                let (text, after) = rest.split_at(len);
                tokens.push(Token { text, line });
                rest = after.trim_start();
            }
        }
        tokens
    }

    pub(crate) fn outline(&self) -> Outline {
        let tokens = self.tokens();
        let mut reader = Reader { tokens: &tokens, at: 0, outline: Outline::default() };
        reader.read_all();
        reader.outline
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn list(folder: &str, files: &mut Vec<std::path::PathBuf>) {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return };
    for entry in entries {
        let entry = entry.expect("folders are readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !name.starts_with('.') => list(&path, files),
            _ => files.push(path.into()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// What `rest` begins with, and how long that is.
fn next_piece(rest: &str, after_word: bool) -> (Kind, usize) {
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment_len(rest));
    }
    let literal = if after_word { None } else { string_len(rest).or_else(|| char_len(rest)) };
    match literal {
        Some(len) => (Kind::Literal, len),
        None => (Kind::Code, rest.chars().next().map_or(0, char::len_utf8)),
    }
}

fn block_comment_len(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        let (step, change) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth = depth.saturating_add_signed(change);
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of the string literal that `rest` begins with: `"…"`, `b"…"`, `r#"…"#` and so on.
fn string_len(rest: &str) -> Option<usize> {
    let unprefixed = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let Some(raw) = unprefixed.strip_prefix('r') else {
        let body = unprefixed.strip_prefix('"')?;
        return Some(rest.len() - body.len() + escaped_len(body, b'"'));
    };
    let body = raw.trim_start_matches('#');
    let end = format!("\"{}", &raw[..raw.len() - body.len()]);
    let body = body.strip_prefix('"')?;
    let len = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + len)
}

/// The length of the character literal that `rest` begins with; a lifetime is none.
fn char_len(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('\'')?;
    let before = rest.len() - body.len();
    let first = body.chars().next()?;
    if first == '\\' {
        return Some(before + escaped_len(body, b'\''));
    }
    body[first.len_utf8()..].starts_with('\'').then(|| before + first.len_utf8() + 1)
}

/// Up to and with the first `end` that no backslash escapes.
fn escaped_len(body: &str, end: u8) -> usize {
    let mut bytes = body.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            _ if byte == end => return at + 1,
            _ => {}
        }
    }
    body.len()
}

fn push(text: &mut String, piece: &str, shown: bool) {
    text.extend(piece.chars().map(|c| if shown || c == '\n' { c } else { ' ' }));
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A word, `::`, or any other character.
#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// What a file names and which files it brings in.
#[derive(Default)]
pub(crate) struct Outline {
    pub(crate) paths: Vec<Named>,
    /// The module paths of `mod name;`, from this file on.
    pub(crate) submodules: Vec<Vec<String>>,
}

/// One path such as `std::thread::sleep`; each leaf of a `use` tree is one.
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// The inline modules around it, from this file on.
    pub(crate) inside: Vec<String>,
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    outline: Outline,
}

impl Reader<'_> {
    fn read_all(&mut self) {
        // For each open brace, the module that it opens, if it is one.
        let mut open: Vec<Option<String>> = Vec::new();
        while self.at < self.tokens.len() {
            let inside: Vec<String> = open.iter().flatten().cloned().collect();
            match (self.text(0), self.text(2)) {
                ("mod", "{") => {
                    open.push(Some(self.text(1).to_owned()));
                    self.at += 3;
                }
                ("mod", ";") => {
                    let submodule = inside.into_iter().chain([self.text(1).to_owned()]);
                    self.outline.submodules.push(submodule.collect());
                    self.at += 3;
                }
                ("{", _) => {
                    open.push(None);
                    self.at += 1;
                }
                ("}", _) => {
                    open.pop();
                    self.at += 1;
                }
                (word, _) if word.starts_with(is_word) => self.read_path(&[], &inside),
                _ => self.at += 1,
            }
        }
    }

    /// Reads one path, or a `use` tree with all of its leaves.
    fn read_path(&mut self, prefix: &[String], inside: &[String]) {
        let line = self.tokens[self.at].line;
        let imported = self.at > 0 && matches!(self.tokens[self.at - 1].text, "use" | "crate");
        let mut segments = prefix.to_vec();
        loop {
            segments.push(self.text(0).to_owned());
            self.at += 1;
            match (self.text(0), self.text(1)) {
                ("::", "{") => {
                    self.at += 2;
                    return self.read_group(&segments, inside);
                }
                ("::", next) if next == "*" || next.starts_with(is_word) => self.at += 1,
                _ => break,
            }
        }
        if segments.len() > 1 || imported {
            self.outline.paths.push(Named { segments, line, inside: inside.to_vec() });
        }
    }

    /// Reads what follows the opening brace of a group, and the closing one.
    fn read_group(&mut self, prefix: &[String], inside: &[String]) {
        while self.at < self.tokens.len() {
            match self.text(0) {
                "}" => {
                    self.at += 1;
                    return;
                }
                "," => self.at += 1,
                // What a leaf is called from here on is no path.
                "as" => self.at += 2,
                _ => self.read_path(prefix, inside),
            }
        }
    }

    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text)
    }
}
