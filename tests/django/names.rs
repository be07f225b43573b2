//! File names that break things, and what becomes of each: sent by roe-batch, and by
//! python-requests.

/// A piece of a name.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    pub text: &'static str,
    /// As stored when roe-batch sends it.
    pub stored: &'static str,
    /// As stored when python-requests sends it, except that what stands before a slash or
    /// backslash is lost then.
    pub by_requests: &'static str,
}

/// A whole name, with what becomes of it; python-requests may fail to have it stored at all.
#[derive(Debug)]
pub struct Name {
    pub text: String,
    pub stored: String,
    pub by_requests: Option<String>,
}

/// Why python-requests has a name stored otherwise than roe-batch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// It percent-encodes quotes and line breaks as browsers do, which Django does not undo;
    /// roe-batch sends `\"`, and `_` for a line break.
    PercentEncoded,
    /// It sends entities as they are, and Django unescapes them; roe-batch escapes the ampersand.
    Unescaped,
    /// It sends a backslash as it is, and Django keeps what follows the last one; or Django gets
    /// one, or a slash, out of an entity. roe-batch sends `_` for a backslash.
    Cut,
    /// A backslash before the closing quote takes the quote into the name, and the upload is
    /// refused.
    Refused,
}

impl Name {
    /// The difference that a name makes, if any, told from the name alone.
    pub fn difference(&self) -> Option<Difference> {
        let text = self.text.as_str();
        let entity = |word: &&str| text.contains(*word);
        if text.ends_with('\\') {
            Some(Difference::Refused)
        } else if text.contains('\\') || CUTTING_ENTITIES.iter().any(entity) {
            Some(Difference::Cut)
        } else if ENTITIES.iter().any(entity) {
            Some(Difference::Unescaped)
        } else if text.contains(['"', '\r', '\n']) {
            Some(Difference::PercentEncoded)
        } else {
            None
        }
    }
}

/// Entities that stand for a slash or a backslash.
const CUTTING_ENTITIES: [&str; 2] = ["&sol;", "&#92;"];

/// What Django replaces in the names here.
const ENTITIES: [&str; 13] = [
    "&reg", "&amp;", "&lt", "&#65;", "&#x41", "&#0;", "&#10;", "&#128;", "&#xD800;", "&quot;",
    "&nbsp;", "&notin;", "&notit;",
];

const fn same(text: &'static str) -> Piece {
    differs(text, text, text)
}

const fn both(text: &'static str, stored: &'static str) -> Piece {
    differs(text, stored, stored)
}

const fn unescaped(text: &'static str, by_requests: &'static str) -> Piece {
    differs(text, text, by_requests)
}

const fn differs(text: &'static str, stored: &'static str, by_requests: &'static str) -> Piece {
    Piece {
        text,
        stored,
        by_requests,
    }
}

pub const PIECES: [Piece; 96] = [
    same("plain"),
    same("with space"),
    same("'single'"),
    same("(1)"),
    same("-dash"),
    same("=cmd|x"),
    same("semi;colon"),
    same("comma, too"),
    same("a=b&c=d"),
    same("R&D"),
    same("& Co"),
    same("&unknown"),
    same("&unknown;"),
    same("& amp;"),
    same("100%"),
    same("%41"),
    same("per%22cent"),
    same("%0D%0A"),
    same("UTF-8''x"),
    same("=?utf-8?q?x?="),
    same("<tag>"),
    same("[0]*?"),
    same("{a,b}"),
    same("#hash"),
    same("C:drive"),
    same("~$`!"),
    same("é"),
    same("e\u{301}"),
    same("\u{212b}"),
    same("A\u{30a}"),
    same("漢字"),
    same("ｆｕｌｌ"),
    same("\u{1112}\u{1161}\u{11ab}"),
    same("한"),
    same("ﬁ"),
    same("ß"),
    same("שלום"),
    same("مرحبا"),
    same("ไทย"),
    same("🎉"),
    same("👍🏽"),
    same("❤\u{fe0f}"),
    same("\u{2800}"),
    same("\u{3164}"),
    same("\u{fffd}"),
    both("👩\u{200d}🔬", "👩🔬"),
    both("nb\u{a0}sp", "nbsp"),
    both("nn\u{202f}bsp", "nnbsp"),
    both("ide\u{3000}o", "ideo"),
    both("og\u{1680}ham", "ogham"),
    both("en\u{2002}space", "enspace"),
    both("zw\u{200b}sp", "zwsp"),
    both("zw\u{200c}nj", "zwnj"),
    both("lr\u{200e}m", "lrm"),
    both("rl\u{202e}o", "rlo"),
    both("iso\u{2066}late\u{2069}", "isolate"),
    both("word\u{2060}join", "wordjoin"),
    both("bo\u{feff}m", "bom"),
    both("soft\u{ad}hyphen", "softhyphen"),
    both("line\u{2028}sep", "linesep"),
    both("para\u{2029}sep", "parasep"),
    both("ne\u{85}l", "nel"),
    both("tab\tbed", "tabbed"),
    both("v\u{b}tab", "vtab"),
    both("form\u{c}feed", "formfeed"),
    both("esc\u{1b}[31m", "esc[31m"),
    both("so\u{1}h\u{1f}", "soh"),
    both("file\u{1c}sep", "filesep"),
    both("de\u{7f}l", "del"),
    both("c1\u{9b}csi", "c1csi"),
    both("pua\u{e000}", "pua"),
    both("t\u{e0041}ag", "tag"),
    differs("\"quoted\"", "\"quoted\"", "%22quoted%22"),
    differs(
        "\"; filename=\"evil",
        "\"; filename=\"evil",
        "%22; filename=%22evil",
    ),
    differs("lf\nlf", "lf_lf", "lf%0Alf"),
    differs("cr\rcr", "cr_cr", "cr%0Dcr"),
    differs("x\r\nX-A: b", "x__X-A: b", "x%0D%0AX-A: b"),
    differs("back\\slash", "back_slash", "back\\slash"),
    differs("esc\\\"aped", "esc_\"aped", "esc\\%22aped"),
    differs("C:\\dir\\", "C:_dir_", "C:\\dir\\"),
    unescaped("&region", "®ion"),
    unescaped("&amp;", "&"),
    unescaped("&amp;lt;", "&lt;"),
    unescaped("&lt", "<"),
    unescaped("&#65;", "A"),
    unescaped("&#x41 ", "A "),
    unescaped("&#0;", "\u{fffd}"),
    unescaped("lf&#10;", "lf"),
    unescaped("&#128;", "€"),
    unescaped("&#xD800;", "\u{fffd}"),
    unescaped("&quot;", "\""),
    unescaped("nb&nbsp;sp", "nbsp"),
    unescaped("&notin;", "∉"),
    unescaped("&notit;", "¬it;"),
    unescaped("sol&sol;idus", "sol/idus"),
    unescaped("rev&#92;erse", "rev\\erse"),
];

const EXTENSIONS: [&str; 12] = [
    ".bin", ".pdf", ".CSV", ".json", ".tar.gz", ".txt", "", ".jpeg", ".parquet", ".html", ".x y",
    ".é",
];

/// A name of two pieces, or one, between a number and an extension.
pub fn composed(number: usize) -> Name {
    let first = PIECES[number % PIECES.len()];
    let second = match number / PIECES.len() {
        0 => same(""),
        round => PIECES[(number + 7 * round) % PIECES.len()],
    };
    let extension = EXTENSIONS[number % EXTENSIONS.len()];
    let of = |a, b| format!("{number}{a}{b}z{extension}");
    let by_requests = of(first.by_requests, second.by_requests);
    let kept = by_requests.rsplit(['/', '\\']).next();
    Name {
        text: of(first.text, second.text),
        stored: of(first.stored, second.stored),
        by_requests: kept.map(str::to_owned),
    }
}

/// Names whose ends or lengths are what is hostile about them.
pub fn whole() -> Vec<Name> {
    let alike = |text: &str| name(text, text, Some(text));
    vec![
        alike("..."),
        alike("....txt"),
        alike(".hidden"),
        alike(" "),
        alike("  leading"),
        alike(" .leading"),
        alike("trailing  "),
        alike("trailing.txt "),
        alike("trailing."),
        alike(" é "),
        alike("-rf"),
        alike("--"),
        alike("NUL"),
        alike("*"),
        alike("<x>"),
        alike("'"),
        alike("filename"),
        alike("file.é"),
        name("\u{200b}x\u{feff}", "x", Some("x")),
        name("\t.\t.\t.", "...", Some("...")),
        name("\"", "\"", Some("%22")),
        name("\"\"", "\"\"", Some("%22%22")),
        name("\"x", "\"x", Some("%22x")),
        name("é\"", "é\"", Some("é%22")),
        name("\n", "_", Some("%0A")),
        name("x\r\n", "x__", Some("x%0D%0A")),
        name("\\x", "_x", Some("x")),
        name("\\\\host\\share", "__host_share", Some("share")),
        name("x\\", "x_", None),
        name("é\\\\", "é__", None),
        name("&amp;", "&amp;", Some("&")),
        name("&#65;", "&#65;", Some("A")),
        alike(&"x".repeat(255)),
        alike(&("x".repeat(251) + ".pdf")),
        alike(&(".".to_owned() + &"x".repeat(254))),
        alike(&("x.".to_owned() + &"y".repeat(253))),
        alike(&"é".repeat(127)),
        alike(&"漢".repeat(85)),
        alike(&"🎉".repeat(63)),
        alike(&"e\u{301}".repeat(85)),
        name(
            &"\"".repeat(255),
            &"\"".repeat(255),
            Some(&"%22".repeat(85)),
        ),
        name(
            &"&lt;".repeat(63),
            &"&lt;".repeat(63),
            Some(&"<".repeat(63)),
        ),
    ]
}

/// Folders whose path is one name, longer than a file system takes and than Django keeps.
pub fn longer_than_kept() -> Vec<([String; 3], String)> {
    let cut = |parts: &[String; 3], extension: &str| {
        let whole = parts.concat();
        let keep = 255 - extension.chars().count();
        whole.chars().take(keep).collect::<String>() + extension
    };
    [
        (["a".repeat(200), "b".repeat(99), "c.tar.gz".into()], ".gz"),
        (
            ["é".repeat(110), "x".repeat(120), "漢.txt".repeat(10)],
            ".txt",
        ),
        (["a".repeat(250), "b".repeat(250), "c".into()], ""),
        (["a".repeat(5), "b".repeat(245), "c.pdf".into()], ""),
    ]
    .map(|(parts, extension)| {
        let stored = cut(&parts, extension);
        (parts, stored)
    })
    .into()
}

fn name(text: &str, stored: &str, by_requests: Option<&str>) -> Name {
    Name {
        text: text.to_owned(),
        stored: stored.to_owned(),
        by_requests: by_requests.map(str::to_owned),
    }
}
