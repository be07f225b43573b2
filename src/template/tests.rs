use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::filters::TEXT_MAX;
use super::*;
use crate::model::{Fields, RuleName, RunId, Stat};

/// Everything that a template may know, and the values of one file.
struct World {
    environment: Environment,
    vars: BTreeMap<String, String>,
    groups: Vec<String>,
    capture: Option<Fields>,
    row: Option<Fields>,
    sidecar: Option<Fields>,
}

fn fields(pairs: &[(&str, Option<&str>)]) -> Fields {
    let names: Arc<[Arc<str>]> = pairs.iter().map(|(name, _)| Arc::from(*name)).collect();
    Fields::new(names, pairs.iter().map(|(_, value)| *value))
}

impl World {
    fn new() -> Self {
        let environment = Environment::new(
            [
                ("TEAM", "ops"),
                ("EMPTY", ""),
                ("ROE_API_KEY", "s3cret-key"),
                ("DB_PASSWORD", "hunter2"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let vars = [("region", "eu-west"), ("acme", "ds-1")];
        Self {
            environment,
            vars: vars.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            groups: ["year", "vendor", "part"].map(str::to_owned).into(),
            capture: Some(fields(&[
                ("year", Some("2024")),
                ("vendor", Some("acme")),
                ("part", None),
            ])),
            row: Some(fields(&[
                ("customer", Some("c-7")),
                ("Customer ID", Some("7")),
                ("pages", Some("12")),
                ("note", None),
            ])),
            sidecar: Some(fields(&[("author", Some("Ada"))])),
        }
    }

    fn known(&self) -> Known<'_> {
        Known {
            environment: &self.environment,
            vars: &self.vars,
            capture: Some(&self.groups),
            row: true,
            sidecar: true,
        }
    }

    fn with_values<T>(&self, use_them: impl FnOnce(&Values<'_>) -> T) -> T {
        use_them(&Values {
            manifest: "invoices",
            run: Some((&RunId::new("run-1"), Timestamp::UNIX_EPOCH)),
            rule: Some(&RuleName::new("pdfs")),
            file: Some((
                "2024/acme/Invoice 7.tar.gz",
                Stat {
                    size: 1234,
                    mtime_ns: 1_700_000_000_123_456_789,
                    inode: 1,
                },
            )),
            capture: self.capture.as_ref(),
            row: self.row.as_ref(),
            sidecar: self.sidecar.as_ref(),
        })
    }

    fn template(&self, text: &str) -> Template {
        Template::parse(text, Scope::File, &self.known()).expect(text)
    }

    fn render(&self, text: &str) -> Result<String, RenderError> {
        let template = self.template(text);
        self.with_values(|values| template.render(values))
    }

    /// What is wrong when rendering: the place's text and the message.
    fn failure(&self, text: &str) -> (String, String) {
        let error = self.render(text).expect_err(text);
        (text[error.range.clone()].to_owned(), error.to_string())
    }

    fn holds(&self, text: &str) -> Result<bool, String> {
        let condition = Condition::parse(text, Scope::File, &self.known())
            .map_err(|errors| errors[0].message.clone())?;
        self.with_values(|values| condition.holds(values))
            .map_err(|error| error.to_string())
    }
}

/// What is wrong when parsing: the place's text, the message and the help.
fn problems_of(text: &str, scope: Scope, known: &Known<'_>) -> Vec<(String, String, String)> {
    Template::parse(text, scope, known)
        .expect_err(text)
        .into_iter()
        .map(|error| {
            let place = text[error.range].to_owned();
            (place, error.message, error.help.unwrap_or_default())
        })
        .collect()
}

fn problems(text: &str, scope: Scope) -> Vec<(String, String)> {
    problems_of(text, scope, &World::new().known())
        .into_iter()
        .map(|(place, message, _)| (place, message))
        .collect()
}

fn problem(text: &str) -> (String, String, String) {
    let mut found = problems_of(text, Scope::File, &World::new().known());
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found.remove(0)
}

fn rendered(text: &str) -> String {
    World::new().render(text).expect(text)
}

#[test]
fn every_name_has_its_value() {
    for (name, expected) in [
        ("file.path", "2024/acme/Invoice 7.tar.gz"),
        ("file.name", "Invoice 7.tar.gz"),
        ("file.stem", "Invoice 7.tar"),
        ("file.extension", "gz"),
        ("file.parent", "2024/acme"),
        ("file.size", "1234"),
        ("file.modified", "2023-11-14T22:13:20Z"),
        ("rule.name", "pdfs"),
        ("run.id", "run-1"),
        ("run.started", "1970-01-01T00:00:00Z"),
        ("manifest.name", "invoices"),
        ("env.TEAM", "ops"),
        ("env.EMPTY", ""),
        ("env(\"TEAM\")", "ops"),
        ("env('EMPTY', 'x')", ""),
        ("env(\"NOPE\", \"a \\\"b\\\"\")", "a \"b\""),
        ("vars.region", "eu-west"),
        ("capture.year", "2024"),
        ("row.customer", "c-7"),
        ("row[\"Customer ID\"]", "7"),
        ("row['customer']", "c-7"),
        ("file[\"name\"]", "Invoice 7.tar.gz"),
        ("sidecar.author", "Ada"),
    ] {
        assert_eq!(rendered(&format!("${{{{ {name} }}}}")), expected);
        // The engine must agree with the short cut for bare names.
        assert_eq!(rendered(&format!("${{{{ {name} ~ \"\" }}}}")), expected);
        let chosen = format!("${{{{ {name} if file.size > 0 else \"\" }}}}");
        assert_eq!(rendered(&chosen), expected);
    }
    assert_eq!(Name::ALL.len(), 11);
}

#[test]
fn text_around_expressions_stays_as_written() {
    assert_eq!(rendered("1.10"), "1.10");
    assert_eq!(rendered(""), "");
    assert_eq!(
        rendered("a ${{file.stem|upper}}-${{ rule.name }} }} $x {{y}}"),
        "a INVOICE 7.TAR-pdfs }} $x {{y}}"
    );
    assert_eq!(rendered(r#"${{ "}}" ~ '${{' }}"#), "}}${{");
    assert_eq!(
        rendered("${{ file.size > 1000 }} ${{ file.size + 1 }}"),
        "true 1235"
    );
    assert_eq!(
        rendered("${{ {\"acme\": {\"id\": \"x\"}}[capture.vendor].id }}"),
        "x"
    );
}

#[test]
fn every_filter_does_what_its_documentation_says() {
    for filter in &FILTERS {
        assert!(filter.signature.starts_with(filter.name), "{filter:?}");
        assert!(filter.example.contains(filter.name), "{filter:?}");
        let made = rendered(&format!("${{{{ {} }}}}", filter.example));
        assert_eq!(made, filter.yields, "{}", filter.example);
        // So that none is folded into its text when the manifest is read.
        let run = format!("${{{{ ({}) if file.size else \"\" }}}}", filter.example);
        assert_eq!(rendered(&run), filter.yields, "{}", filter.example);
    }
}

#[test]
fn filters_take_what_they_should() {
    for (expression, expected) in [
        ("file.size | lower", "1234"),
        ("true | upper", "TRUE"),
        ("\"über straße\" | title", "Über Straße"),
        ("\" a\\tb\\n\" | trim", "a\tb"),
        ("\"aaa\" | replace(\"aa\", \"b\")", "ba"),
        ("\"a1b\" | replace(1, 2)", "a2b"),
        ("\"\" | split(\",\") | length", "1"),
        ("\"\" | first | default(\"none\")", "none"),
        ("[] | last | default(\"none\")", "none"),
        ("\"é\" | length", "1"),
        ("[1, true, \"x\"] | join(\"-\")", "1-true-x"),
        ("(\"a/b/c\" | split(\"/\"))[:2] | join(\"/\")", "a/b"),
        ("(\"a/b/c\" | split(\"/\"))[-1]", "c"),
        ("\"--\" | slug", ""),
        ("\"Ärger & Co. KG\" | slug", "ärger-co-kg"),
        ("none | default(\"x\")", "x"),
        ("row.pages | default(row.nope)", "12"),
        ("row.nope | default(row.nope) | default(\"x\")", "x"),
        ("\"\" | default(\"x\")", ""),
        ("\"\" or \"x\"", "x"),
        ("\"2025-03-01\" | date(\"%Y\") ~ \"!\"", "2025!"),
        ("file.modified | date(\"%b %Y\")", "Nov 2023"),
        ("run.started | date(\"%s\")", "0"),
        ("file.modified > \"2023-01-01\"", "true"),
        (
            "file.name | regex_replace(\"[^A-Za-z]+\", \"\")",
            "Invoicetargz",
        ),
        (
            "row.customer | hash(\"blake3\")",
            "2f63f3b2dc1a2fb1fc1fb8b7e0d9b7c1",
        ),
        ("\"nvoi\" in file.name", "true"),
        ("row.customer is defined and row.nope is undefined", "true"),
        ("not (row.nope is defined)", "true"),
        ("vars[capture.vendor] | default(\"ds-0\")", "ds-1"),
        ("vars[file.stem] | default(\"ds-0\")", "ds-0"),
        ("row[\"Customer \" ~ \"ID\"]", "7"),
        ("\"customer\" in row and \"x\" not in row", "true"),
    ] {
        let made = World::new().render(&format!("${{{{ {expression} }}}}"));
        let made = made.unwrap_or_else(|error| panic!("{expression}: {error}"));
        if expression.contains("blake3") {
            assert_eq!(made, blake3::hash(b"c-7").to_hex().to_string());
        } else {
            assert_eq!(made, expected, "{expression}");
        }
    }
}

#[test]
fn unknown_names_are_found_when_parsing_with_their_place() {
    assert_eq!(
        problems(
            "x ${{ file.nam }} ${{ rule.name }} ${{ nope }}",
            Scope::File
        ),
        [
            ("file.nam".to_owned(), "`file.nam` is not known".to_owned()),
            ("nope".to_owned(), "`nope` is not known".to_owned())
        ]
    );
    assert_eq!(
        problems("${{ file.name }}", Scope::Run),
        [(
            "file.name".to_owned(),
            "`file.name` has no value here".to_owned()
        )]
    );
    for (text, place, message, help) in [
        (
            "é ${{ 'file.nam' ~ file.nam }}",
            "file.nam",
            "`file.nam` is not known",
            "did you mean `file.name`?",
        ),
        (
            "${{ rwo.customer | lower }}",
            "rwo.customer",
            "`rwo.customer` is not known",
            "did you mean `row.customer`?",
        ),
        (
            "${{ capture.yaer }}",
            "capture.yaer",
            "`capture.yaer` is not known",
            "did you mean `capture.year`?",
        ),
        (
            "${{ capture['nothing'] }}",
            "capture['nothing']",
            "`capture.nothing` is not known",
            "the groups of `capture` are year, vendor, part",
        ),
        (
            "${{ vars.regoin }}",
            "vars.regoin",
            "`vars.regoin` is not known",
            "did you mean `vars.region`?",
        ),
        (
            "${{ vars.nothing }}",
            "vars.nothing",
            "`vars.nothing` is not known",
            "the `vars` are acme, region",
        ),
        (
            "${{ file }}",
            "file",
            "`file` is no value by itself",
            "here you can use file.path, file.name, file.stem, file.extension, file.parent, \
             file.size, file.modified, rule.name, run.id, run.started, manifest.name, \
             capture.NAME, row.NAME, sidecar.NAME, vars.NAME, env.NAME",
        ),
        ("${{ in }}", "in", "`in` is not known", ""),
        ("${{ loop }}", "loop", "`loop` is not known", ""),
        ("${{ self }}", "self", "`self` is not known", ""),
    ] {
        let (found, said, helped) = problem(text);
        assert_eq!((&*found, &*said), (place, message), "{text}");
        if !help.is_empty() {
            assert_eq!(helped, help, "{text}");
        }
    }
}

#[test]
fn a_name_that_the_rule_gives_no_value_says_which_key_would() {
    let environment = Environment::default();
    let known = Known::new(&environment);
    for (text, message, help) in [
        (
            "${{ capture.year }}",
            "`capture.year` has no value: the rule has no `capture`",
            "add `capture:` with a pattern that has a group `(?<year>…)`",
        ),
        (
            "${{ row.id ~ 1 }}",
            "`row.id` has no value: the rule has no `table`",
            "add `table:` to join a row to each file",
        ),
        (
            "${{ row | length }}",
            "`row` has no value: the rule has no `table`",
            "add `table:` to join a row to each file",
        ),
        (
            "${{ sidecar.author }}",
            "`sidecar.author` has no value: the rule has no `sidecar`",
            "add `sidecar:` with the path of the file that lies beside each",
        ),
        (
            "${{ vars.x }}",
            "`vars.x` is not known",
            "add `x` to `vars:`",
        ),
    ] {
        let found = problems_of(text, Scope::File, &known);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&*found[0].1, &*found[0].2), (message, help), "{text}");
    }
}

#[test]
fn each_scope_has_its_names() {
    let world = World::new();
    let names = [
        ("file.name", "f"),
        ("rule.name", "fr"),
        ("run.id", "fu"),
        ("manifest.name", "fru"),
        ("vars.region", "fru"),
        ("capture.year", "f"),
        ("row.x", "f"),
        ("sidecar.x", "f"),
        ("env.TEAM", "fruv"),
        ("env('TEAM')", "fruv"),
    ];
    let scopes = [
        ('f', Scope::File),
        ('r', Scope::Rule),
        ('u', Scope::Run),
        ('v', Scope::Vars),
    ];
    for (name, has) in names {
        for (letter, scope) in scopes {
            for text in [
                format!("${{{{ {name} }}}}"),
                format!("${{{{ {name} ~ 1 }}}}"),
            ] {
                let parsed = Template::parse(&text, scope, &world.known());
                assert_eq!(parsed.is_ok(), has.contains(letter), "{text} {scope:?}");
            }
        }
    }
}

#[test]
fn malformed_expressions_are_found_when_parsing() {
    assert_eq!(
        problems("a ${{ file.name", Scope::File)[0].0,
        "${{ file.name"
    );
    assert_eq!(
        problems("${{ }}", Scope::File),
        [("${{ }}".to_owned(), "the expression is empty".to_owned())]
    );
    for text in [
        "${{ file. }}",
        "${{ 1 + }}",
        "${{ (file.name }}",
        "${{ file.name) }}",
        "${{ [1 }}",
        "${{ 'a }}",
        "${{ file.name file.stem }}",
        "${{ file.name | }}",
        "${{ row.Größe }}",
        "${{ | lower }}",
        "${{ file.name is }}",
        "${{ ,, }}",
        "${{ )( }}",
        "${{ . }}",
        "${{ env( }}",
        "${{ 'a'.upper( }}",
        "${{ not }}",
        "${{ {% if x %} }}",
        "${{ 'a' 1 }}",
        "${{ 'a' 1_ }}",
        "${{ 'a' '\\x' }}",
        "${{ 'a'é }}",
    ] {
        let found = Template::parse(text, Scope::File, &World::new().known());
        let found = found.expect_err(text);
        assert!(!found.is_empty(), "{text}");
        for error in found {
            assert!(text.get(error.range.clone()).is_some(), "{text} {error:?}");
        }
    }
}

#[test]
fn only_named_variables_reach_an_expression_and_never_the_key() {
    for (text, message) in [
        (
            "${{ env.TEAMS }}",
            "the environment variable TEAMS is not set",
        ),
        (
            "${{ env(\"TEAMS\") }}",
            "the environment variable TEAMS is not set",
        ),
        (
            "${{ env.ROE_API_KEY }}",
            "the API key cannot be used in a manifest",
        ),
        (
            "${{ env(\"ROE_API_KEY\", \"\") | lower }}",
            "the API key cannot be used in a manifest",
        ),
        (
            "${{ env['ROE_API_KEY'] }}",
            "the API key cannot be used in a manifest",
        ),
        ("${{ env }}", "`env` is no value by itself"),
        (
            "${{ env['ROE_' ~ 'API_KEY'] }}",
            "`env` is no value by itself",
        ),
        (
            "${{ env.TEAM ~ env['ROE_API' ~ '_KEY'] }}",
            "`env` is no value by itself",
        ),
        ("${{ [env][0] }}", "`env` is no value by itself"),
    ] {
        assert_eq!(problem(text).1, message, "{text}");
    }
    for text in [
        "${{ env() }}",
        "${{ env(TEAM) }}",
        "${{ env(\"TE\" ~ \"AM\") }}",
        "${{ env(\"TEAM\", file.name) }}",
        "${{ env(\"TEAM\", \"a\", \"b\") }}",
        "${{ env(name=\"TEAM\") }}",
        "${{ env(\"A\" \"B\") }}",
    ] {
        let found = problems_of(text, Scope::File, &World::new().known());
        let (place, message, help) = &found[0];
        assert!(place.starts_with("env("), "{place}");
        assert!(
            message.starts_with("`env` takes the name of a"),
            "{message}"
        );
        assert_eq!(help, "write `env(\"NAME\", \"…\")`");
    }
    let help = problem("${{ env.TEAMX }}").2;
    assert_eq!(help, "did you mean `env.TEAM`?");
    // Two calls of one name are two values.
    assert_eq!(
        rendered("${{ env('NO', 'a') ~ env('NO', 'b') ~ env('TEAM', 'c') ~ file.extension }}"),
        "abopsgz"
    );
}

#[test]
fn neither_debug_text_nor_error_shows_what_a_variable_holds() {
    let world = World::new();
    let template = world.template("${{ env.DB_PASSWORD }} ${{ env.DB_PASSWORD ~ file.name }}");
    assert!(!format!("{template:?}").contains("hunter2"));
    for text in [
        "${{ env.DB_PASSWORD | date('%Y') }}",
        "${{ (env.DB_PASSWORD if file.size else '') | date('%Y') }}",
        "${{ file.name | hash(env.DB_PASSWORD) }}",
        "${{ file.name | regex_replace('(' ~ env.DB_PASSWORD, '') }}",
        "${{ file.modified | date('%é' ~ env.DB_PASSWORD) }}",
    ] {
        let said = match Template::parse(text, Scope::File, &world.known()) {
            Err(errors) => format!("{errors:?}"),
            Ok(template) => world.with_values(|values| {
                let error = template.render(values).expect_err(text);
                format!("{error:?} {error}")
            }),
        };
        assert!(!said.contains("hunter2"), "{said}");
    }
    let (_, said) = world.failure("${{ row.pages | date('%Y') }}");
    assert_eq!(
        said,
        "`row.pages | date('%Y')`: `date` takes `2025-03-01` or `2025-03-01T12:00:00Z`, found `12`"
    );
}

#[test]
fn unknown_filters_functions_tests_and_methods_are_found_when_parsing() {
    let all = "lower, upper, title, trim, replace, default, split, first, last, join, length, \
               slug, date, regex_replace, hash";
    for (text, place, message, help) in [
        (
            "${{ file.name | shout }}",
            "shout",
            "there is no filter `shout`",
            format!("the filters are {all}"),
        ),
        (
            "${{ file.name | lowr ~ 1 }}",
            "lowr",
            "there is no filter `lowr`",
            format!("did you mean `lower`? If not, the filters are {all}"),
        ),
        // Though no file ever gets there.
        (
            "${{ file.name if true else (file.name | tojson) }}",
            "tojson",
            "there is no filter `tojson`",
            format!("the filters are {all}"),
        ),
        (
            "${{ range(10) }}",
            "range",
            "there is no function `range`",
            "the one function is `env(\"NAME\", \"…\")`".to_owned(),
        ),
        (
            "${{ lower(file.name) }}",
            "lower",
            "there is no function `lower`",
            "`lower` is a filter, as in `file.name | lower`".to_owned(),
        ),
        (
            "${{ file.name.upper() }}",
            "upper",
            "there is no method `upper`",
            "`upper` is a filter: write `| upper`".to_owned(),
        ),
        (
            "${{ (file.name ~ 'x').startswith('a') }}",
            "startswith",
            "there is no method `startswith`",
            format!("the filters are {all}"),
        ),
        (
            "${{ file.name.foo }}",
            "foo",
            "a text or number has no `foo` in it",
            format!("the filters are {all}"),
        ),
        (
            "${{ file.size is even }}",
            "even",
            "there is no test `even`",
            "the tests are `is defined` and `is undefined`".to_owned(),
        ),
        (
            "${{ row.a is not defnied }}",
            "defnied",
            "there is no test `defnied`",
            "did you mean `is defined`?".to_owned(),
        ),
        (
            "${{ row.a is defined(1) }}",
            "defined",
            "`is defined` takes no argument",
            "put it in brackets, as in `(row.id is defined)`".to_owned(),
        ),
        (
            "${{ row['a']('x') }}",
            "(",
            "a value cannot be called",
            "the one function is `env(\"NAME\", \"…\")`".to_owned(),
        ),
    ] {
        assert_eq!(
            problem(text),
            (place.to_owned(), message.to_owned(), help),
            "{text}"
        );
    }
}

#[test]
fn a_column_that_is_no_word_is_shown_in_brackets() {
    for (text, place, help) in [
        ("${{ row.Customer ID }}", "ID", "row[\"Customer ID\"]"),
        ("${{ row.customer-id }}", "id", "row[\"customer-id\"]"),
        ("${{ sidecar.a.b }}", "b", "sidecar[\"a.b\"]"),
        ("${{ row.2024 }}", "2024", "row[\"2024\"]"),
        (
            "${{ row.2024_total | lower }}",
            "2024_total",
            "row[\"2024_total\"]",
        ),
        ("${{ row.Größe }}", "ö", "row[\"Größe\"]"),
        ("${{ env.MY-VAR }}", "env.MY", ""),
    ] {
        let found = problems_of(text, Scope::File, &World::new().known());
        assert_eq!(found[0].0, place, "{found:?}");
        assert!(found[0].2.contains(help), "{found:?}");
    }
    assert_eq!(
        problem("${{ file.name file.stem }}").1,
        "a sign is missing before `file`"
    );
}

#[test]
fn signs_of_other_languages_are_told_in_words() {
    for (text, place, message, help) in [
        (
            "${{ file.name && row.a }}",
            "&",
            "`&` cannot stand here",
            "`and`",
        ),
        ("${{ row.a || 'b' }}", "|", "`||` cannot stand here", "`or`"),
        ("${{ !row.a }}", "!", "`!` cannot stand here", "`not`"),
        (
            "${{ row.a ? 1 : 2 }}",
            "?",
            "`?` cannot stand here",
            "`a if b else c`",
        ),
        (
            "${{ $row }}",
            "$",
            "`$` cannot stand here",
            "row[\"Größe\"]",
        ),
    ] {
        let (found, said, helped) = problem(text);
        assert_eq!((&*found, &*said), (place, message));
        assert!(helped.contains(help), "{helped}");
    }
}

#[test]
fn mistakes_are_counted() {
    let text = "${{ file.nam }}".repeat(1_000);
    assert_eq!(problems(&text, Scope::File).len(), 20);
    let text = format!("${{{{ {} 1 }}}}", "file.nam ~ ".repeat(200));
    assert_eq!(problems(&text, Scope::File).len(), 20);
}

#[test]
fn wrong_arguments_are_found_when_parsing() {
    for (text, place, message) in [
        (
            "${{ file.name | replace('a') }}",
            "replace",
            "`replace` has too few arguments",
        ),
        (
            "${{ file.name | default }}",
            "default",
            "`default` has too few arguments",
        ),
        (
            "${{ file.name | trim('x') }}",
            "trim",
            "`trim` has too many arguments",
        ),
        (
            "${{ 'a' if file.size else (file.name | split) }}",
            "split",
            "`split` has too few arguments",
        ),
        (
            "${{ file.name | split(separator='-') | first }}",
            "separator=",
            "arguments have no names",
        ),
        ("${{ file.name[::2] }}", ":", "a slice has no step"),
        ("${{ file.name[1:2:3] }}", ":", "a slice has no step"),
        (
            "${{ file.name | split('') | first }}",
            "''",
            "`split` needs a separator",
        ),
        (
            "${{ file.name | replace('', 'x') }}",
            "''",
            "`replace` needs a text to look for",
        ),
        (
            "${{ file.name | hash('md5') }}",
            "'md5'",
            "`hash` knows \"sha256\" and \"blake3\"",
        ),
        (
            "${{ file.name | regex_replace('(', '') }}",
            "'('",
            "it is no regular expression: unclosed group",
        ),
        (
            "${{ file.name | regex_replace('(a)', '$2') }}",
            "'$2'",
            "the replacement names a group that the pattern does not have: write `$$` for a \
             dollar, `${1}` where a letter or digit follows",
        ),
    ] {
        let (found, said, _) = problem(text);
        assert_eq!((&*found, &*said), (place, message), "{text}");
    }
    let (place, said, _) = problem("${{ file.modified | date('%!') }}");
    assert_eq!(place, "'%!'");
    assert!(said.starts_with("it is no format of a date: "), "{said}");
}

#[test]
fn what_no_file_could_mend_is_found_when_parsing() {
    for (text, place, message) in [
        (
            "${{ file.name | split('.') }}",
            "file.name | split('.')",
            "the expression yields a list, not a text",
        ),
        (
            "${{ row }}",
            "row",
            "the expression yields a group of values, not a text",
        ),
        (
            "${{ none }}",
            "none",
            "the expression yields nothing, not a text",
        ),
        (
            "${{ file.name | join(',') }}",
            "join(',')",
            "`join` takes a list, not a text",
        ),
        (
            "${{ file.name | split('.') | lower }}",
            "lower",
            "`lower` takes a text, not a list",
        ),
        (
            "${{ file.size | length }}",
            "length",
            "`length` takes a text or a list, not a number",
        ),
        ("${{ 1 / 0 }}", "1 / 0", "unable to calculate 1 / 0"),
        (
            "${{ env.TEAM | date('%Y') }}",
            "date('%Y')",
            "`date` takes `2025-03-01` or `2025-03-01T12:00:00Z`",
        ),
        (
            "${{ ('a' | split('-'))[3] }}",
            "('a' | split('-'))[3]",
            "a part of it has no value",
        ),
    ] {
        let (found, said, _) = problem(text);
        assert_eq!((&*found, &*said), (place, message), "{text}");
    }
    for (text, message) in [
        ("${{ file.name + 1 }}", "tried to use + operator"),
        ("${{ -file.name }}", "a sign does not go with such"),
        ("${{ file.name * row.a }}", "strings can only be multiplied"),
        ("${{ file.name[0:row.a] }}", "cannot convert string"),
        ("${{ file.size[1:] }}", "value of type number cannot be"),
        ("${{ 'a' in file.size }}", "cannot perform a containment"),
    ] {
        let (_, said, _) = problem(text);
        assert!(said.starts_with(message), "{said}");
    }
}

#[test]
fn a_text_compared_with_a_number_is_found_when_parsing() {
    for text in [
        "row.pages > 10",
        "10 < row.pages",
        "row.pages == 12",
        "(file.size > 3) and row['Customer ID'] != 7",
        "row.pages | default('0') >= 3",
        "row.pages | lower >= 3 or true",
        "file.size == '1234'",
        "3 > capture.year",
        "'a' in file.name and file.name < 5",
    ] {
        let (place, said, _) = problem(&format!("${{{{ {text} }}}}"));
        assert!(["<", ">", "==", "!=", ">="].contains(&&*place), "{place}");
        assert!(
            said.starts_with("a text is compared with a number"),
            "{said}"
        );
    }
    for text in [
        "row.pages == '12'",
        "file.size > 10",
        "row.pages | length > 1",
        "1 < row.pages | length",
        "file.size - 1 > 3 - 1",
        "(row.pages ~ '') == '12' and file.size >= 1",
        "capture.year > '2020' and 1 < 2",
        "[1, 2][0] == 1",
    ] {
        assert_eq!(World::new().holds(text), Ok(true), "{text}");
    }
}

#[test]
fn a_value_that_a_file_does_not_have_says_why() {
    let mut world = World::new();
    let said = |world: &World, text: &str| {
        let error = world.render(text).expect_err(text);
        (
            text[error.range.clone()].to_owned(),
            error.to_string(),
            error.help.unwrap_or_default(),
        )
    };
    let default = "say what to use in its place with `| default(\"…\")`";
    assert_eq!(
        said(&world, "a ${{ capture.part }}"),
        (
            "capture.part".to_owned(),
            "`capture.part`: the group `part` took no part in the match".to_owned(),
            default.to_owned()
        )
    );
    assert_eq!(
        said(&world, "a ${{ row.custmer }}"),
        (
            "row.custmer".to_owned(),
            "`row.custmer`: the table has no column `custmer`".to_owned(),
            format!("did you mean `customer`? Or {default}")
        )
    );
    assert_eq!(
        said(&world, "${{ row['x y'] | lower }}"),
        (
            "row['x y']".to_owned(),
            "`row['x y'] | lower`: `row['x y']` has no value: the table has no column `x y`"
                .to_owned(),
            format!("it has customer, Customer ID, pages, note; or {default}")
        )
    );
    assert_eq!(
        said(&world, "${{ row.note ~ 'x' }}").1,
        "`row.note ~ 'x'`: `row.note` has no value: the file's row has no value for `note`"
    );
    assert_eq!(
        said(&world, "${{ sidecar.title }}").1,
        "`sidecar.title`: the file's sidecar has no entry `title`"
    );
    // Of several, the one that matters.
    assert_eq!(
        said(&world, "${{ row.nope | default('x') ~ row.note }}").0,
        "row.note"
    );
    assert_eq!(
        said(
            &world,
            "${{ row.nope | default('x') ~ (row['note'] | lower) }}"
        )
        .0,
        "row['note']"
    );
    assert_eq!(
        said(&world, "${{ file.name | replace('a', row.note) }}").0,
        "row.note"
    );
    assert_eq!(
        said(&world, "${{ row['no' ~ 'pe'] }}").1,
        "`row['no' ~ 'pe']`: a part of it has no value"
    );
    assert_eq!(
        said(&world, "${{ row.note if file.size else '' }}").0,
        "row.note"
    );
    (world.capture, world.row, world.sidecar) = (None, None, None);
    for (name, message) in [
        ("capture.year", "the path does not match `capture`"),
        ("row.customer", "the file has no row in the table"),
        ("sidecar.author", "the file has no sidecar"),
    ] {
        let text = format!("${{{{ {name} }}}}");
        assert_eq!(
            said(&world, &text),
            (
                name.to_owned(),
                format!("`{name}`: {message}"),
                default.to_owned()
            )
        );
        let text = format!("${{{{ {name} | upper }}}}");
        assert_eq!(
            said(&world, &text).1,
            format!("`{name} | upper`: `{name}` has no value: {message}")
        );
    }
}

#[test]
fn any_value_that_may_be_missing_has_a_default() {
    let mut world = World::new();
    let texts = [
        "${{ capture.part | default('d') }}",
        "${{ row.nope | default('d') | upper | lower }}",
        "${{ row['x y'] | default('d') }}",
        "${{ row['x' ~ 'y'] | default('d') }}",
        "${{ row.note | default('d') }}",
        "${{ sidecar.nope | default('d') }}",
        "${{ row.note if row.note is defined else 'd' }}",
    ];
    for text in texts {
        assert_eq!(world.render(text).as_deref(), Ok("d"), "{text}");
    }
    assert_eq!(world.holds("row is defined"), Ok(true));
    (world.capture, world.row, world.sidecar) = (None, None, None);
    for text in texts {
        assert_eq!(world.render(text).as_deref(), Ok("d"), "{text}");
    }
    for group in ["row", "capture", "sidecar"] {
        assert_eq!(world.holds(&format!("{group} is defined")), Ok(false));
        assert_eq!(world.holds(&format!("{group} is undefined")), Ok(true));
    }
    assert_eq!(
        world.holds("row is defined and row.pages == '12'"),
        Ok(false)
    );
}

#[test]
fn what_a_template_uses_is_known() {
    let world = World::new();
    let text = "é ${{ row.a }} ${{ row['b c'] ~ row.a }} ${{ vars.region }} ${{ sidecar.x | \
                default(vars.acme) }}";
    let template = world.template(text);
    let uses = template.uses();
    let at = |named: &Named| -> Vec<(String, String)> {
        let names = named.names.iter();
        names
            .map(|(name, range)| (name.clone(), text[range.clone()].to_owned()))
            .collect()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        at(&uses.row),
        [
            pair("a", "row.a"),
            pair("b c", "row['b c']"),
            pair("a", "row.a")
        ]
    );
    assert_eq!(
        at(&uses.vars),
        [pair("region", "vars.region"), pair("acme", "vars.acme")]
    );
    assert_eq!(at(&uses.sidecar), [pair("x", "sidecar.x")]);
    assert_eq!((&uses.row.whole, &uses.secret), (&None, &None));

    for (text, place) in [
        ("${{ row[file.stem] }}", "row"),
        ("${{ row['a' ~ file.stem] }}", "row"),
        ("${{ 'a' in row }}", "row"),
        ("${{ row.a ~ row[file.stem] ~ row[file.name] }}", "row"),
    ] {
        let template = world.template(text);
        let whole = template.uses().row.whole.clone().expect(text);
        assert_eq!(&text[whole], place);
    }
    let whole = world.template("${{ sidecar[file.stem] }}");
    assert!(whole.uses().sidecar.whole.is_some());
    assert!(whole.uses().row.is_empty());

    let condition = Condition::parse(" row.a == '1'", Scope::File, &world.known());
    let condition = condition.expect("a condition");
    assert_eq!(condition.uses().row.names, [("a".to_owned(), 1..6)]);
    for (text, secret) in [
        ("a", None),
        ("${{ env.TEAM }}", None),
        ("${{ env.TEAM }}${{ env.DB_PASSWORD }}", Some("DB_PASSWORD")),
        ("${{ env('DB_PASSWORD') | hash }}", Some("DB_PASSWORD")),
    ] {
        assert_eq!(world.template(text).uses().secret.as_deref(), secret);
    }
}

#[test]
fn a_condition_holds_or_not() {
    let world = World::new();
    for (text, expected) in [
        ("${{ file.size > 0 }}", true),
        (" ${{ file.size > 0 }}\n", true),
        ("file.size > 0", true),
        ("not file.size > 0", false),
        ("true", true),
        ("${{ env.TEAM == 'ops' }}", true),
        ("capture.part is defined", false),
        ("file.extension in ['gz', 'zip']", true),
        ("'}}' == file.name", false),
        ("file.size > 1000 and row.customer == 'c-7'", true),
    ] {
        assert_eq!(world.holds(text), Ok(expected), "{text}");
    }
    for (text, place, message) in [
        ("", "", "the expression is empty"),
        ("${{ }}", "", "the expression is empty"),
        (
            "${{ file.name }}",
            "file.name",
            "the expression yields a text, not true or false",
        ),
        (
            "file.size",
            "file.size",
            "the expression yields a number, not true or false",
        ),
        (
            " file.size + 1",
            "file.size + 1",
            "the expression yields a number, not true or false",
        ),
        (
            "env.TEAM",
            "env.TEAM",
            "the expression yields a text, not true or false",
        ),
        ("x ${{ true }}", "x", ""),
        (
            "${{ true }} and ${{ false }}",
            "and ${{ false }}",
            "a condition is one expression and nothing else",
        ),
        ("${{ true", "${{ true", "the expression is not closed"),
        ("file.nam == 'x'", "file.nam", "`file.nam` is not known"),
        ("row.a == ", "", ""),
    ] {
        let found = Condition::parse(text, Scope::File, &world.known()).expect_err(text);
        if !message.is_empty() {
            let said = (&text[found[0].range.clone()], &*found[0].message);
            assert_eq!(said, (place, message), "{text}");
        }
    }
    let condition = Condition::parse("row.flag or file.size > 0", Scope::File, &world.known());
    let condition = condition.expect_err("a text");
    assert!(
        condition[0].message.contains("yields a text"),
        "{condition:?}"
    );
    let odd = "row.customer if file.extension == 'gz' else true";
    assert_eq!(
        world.holds(odd),
        Err(format!("`{odd}` yields a text, not true or false"))
    );
    assert_eq!(
        world.holds("row.nope == 'x'"),
        Err(
            "`row.nope == 'x'`: `row.nope` has no value: the table has no column `nope`".to_owned()
        )
    );
}

#[test]
fn a_list_that_only_some_files_yield_is_an_error_of_theirs() {
    let text = "x ${{ [file.name] if file.extension == 'gz' else file.name }}";
    let (place, said) = World::new().failure(text);
    assert_eq!(place, &text[6..text.len() - 3]);
    assert!(said.ends_with(" yields a list, not a text"), "{said}");
}

#[test]
fn hostile_expressions_are_refused_before_they_cost_anything() {
    let long = format!("${{{{ '{}' }}}}", "a".repeat(9_000));
    let many = format!("${{{{ 1{} }}}}", "+1".repeat(1_000));
    let deep = format!("${{{{ {}1{} }}}}", "(".repeat(100), ")".repeat(100));
    let minus = format!("${{{{ {}1 }}}}", "-".repeat(900));
    let nots = format!("${{{{ {}true }}}}", "not ".repeat(900));
    let elses = format!("${{{{ {}1 }}}}", "1 if true else ".repeat(200));
    for (text, message) in [
        (&*long, "the expression is longer than 8 KiB"),
        (&many, "the expression has more than 1000 words and signs"),
        (&deep, "the expression is nested too deeply"),
        (&minus, "the expression is nested too deeply"),
        (&nots, "the expression is nested too deeply"),
        (&elses, "the expression is nested too deeply"),
    ] {
        assert_eq!(problem(text).1, message);
        // A condition is bounded alike.
        let condition = Condition::parse(text, Scope::File, &World::new().known());
        assert_eq!(condition.expect_err(text)[0].message, message);
    }
    let huge = "${{ x }}".repeat(8 * 1024 * 1024);
    let found = problems(&huge, Scope::File);
    assert_eq!(
        found,
        [(String::new(), "the text is longer than 1 MiB".to_owned())]
    );
    let crowded = "${{ file.name }}".repeat(1_001);
    let found = problems(&crowded, Scope::File);
    assert_eq!(
        found,
        [(
            "${{".to_owned(),
            "the text has more than 1000 expressions".to_owned()
        )]
    );
    assert_eq!(
        World::new().render(&"${{ file.extension }}".repeat(1_000)),
        Ok("gz".repeat(1_000))
    );
}

/// The engine's parser, compiler and tree recurse over what the limits still let through.
#[test]
fn the_deepest_expressions_that_are_let_through_need_little_stack() {
    let chains = [
        format!("1{}", "+1".repeat(490)),
        format!("file.size{}", "+file.size".repeat(240)),
        format!("'a'{}", " ~ file.stem".repeat(249)),
        format!("file.name{}", "|lower".repeat(490)),
        format!("{{}}{}", ".a".repeat(490)),
        format!("{{}}{}", "['a']".repeat(320)),
        format!("1{}", " == 1".repeat(490)),
        format!("1{}", " ** 1".repeat(490)),
        format!("true{}", " and true".repeat(490)),
        format!("{}1{}", "(".repeat(32), ")".repeat(32)),
        format!("{}1{}", "[".repeat(32), "]".repeat(32)),
        format!("{}1{}", "{1:".repeat(32), "}".repeat(32)),
        format!("{}1{}", "- not (".repeat(30), ")".repeat(30)),
        format!("{}1", "-".repeat(32)),
        format!("{}true", "not ".repeat(32)),
        format!("{}1", "1 if true else ".repeat(32)),
        format!("{}1{}", "1|default(".repeat(32), ")".repeat(32)),
        format!("1{}", " if true".repeat(400)),
        format!("1{}", " is defined".repeat(400)),
        format!("[1]{}", "+[1]".repeat(240)),
        format!("[{}]", "1,".repeat(490)),
    ];
    let run = move || {
        let world = World::new();
        for chain in &chains {
            let text = format!("${{{{ {chain} }}}}");
            // Whether they are right does not matter here.
            if let Ok(template) = Template::parse(&text, Scope::File, &world.known()) {
                let _ = world.with_values(|values| template.render(values));
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(1024 * 1024);
    let thread = thread.spawn(run).expect("a thread");
    thread.join().expect("no overflow");
}

#[test]
fn no_expression_makes_more_than_a_mebibyte() {
    let mut world = World::new();
    let big = "a".repeat(600_000);
    world.row = Some(fields(&[("big", Some(&big)), ("small", Some("aaaa"))]));
    for text in [
        "${{ row.big ~ row.big }}",
        "${{ [row.big, row.big] ~ '' }}",
        "${{ row ~ row[file.stem] }}",
        "${{ (row.small * 100000000) | length }}",
        "${{ row.small * 1000000 }}",
        "${{ row.big | replace('a', 'bbbb') }}",
        "${{ row.big | replace('a', row.small) | replace('a', row.small) }}",
        "${{ row.big | regex_replace('a+', '$0$0') }}",
        "${{ (row.small | split('a')) | join(row.big) }}",
        "${{ row.big | split('a') | join(' ') }}",
        "${{ row.big | upper | lower | upper | lower }}",
    ] {
        let (_, said) = world.failure(text);
        let known = [
            "the values that it names are longer than 1 MiB",
            "it makes too much text, or takes too many steps",
            "it makes a text longer than 1 MiB",
            "it has more than 10,000 parts",
        ];
        assert!(
            known.iter().any(|why| said.ends_with(why)),
            "{text}: {said}"
        );
    }
    assert_eq!(
        world.failure("${{ row.big }} ${{ row.big }}").1,
        "the rendered text is longer than 1 MiB"
    );
    assert_eq!(world.render("${{ row.big }}").as_deref(), Ok(&*big));
    let text = format!("{}${{{{ row.big }}}}", "b".repeat(TEXT_MAX - 100));
    assert_eq!(
        world.failure(&text).1,
        "the rendered text is longer than 1 MiB"
    );
    // Each makes a little more of what the last has made.
    let chain = "|replace('a','aaaaaaaaaaaaaaaaaaaa')".repeat(20);
    let (_, said) = world.failure(&format!("${{{{ row.small{chain} }}}}"));
    assert!(said.ends_with("steps") || said.ends_with("1 MiB"), "{said}");
}

#[test]
fn lists_are_not_repeated() {
    for text in [
        "${{ [1] * 100000000 }}",
        "${{ 100000000 * [1] }}",
        "${{ [[1] * 100000000] == [[1] * 100000000] }}",
        "${{ {([1] * 100000000): 1, ([1] * 100000000): 2} }}",
        "${{ (file.name | split('.')) * 1000 }}",
        "${{ (1,) * 1000 }}",
        "${{ () * 1000 }}",
        "${{ (1, 2) * 1000 }}",
        "${{ file.name | replace(*['a', 'b']) }}",
        "${{ env([[1] * 100000000] == [[1] * 100000000]) }}",
        "${{ nope([1] * 2) ~ file.nope(2 * [1]) ~ ('x' is nope([1] * 3)) }}",
        "${{ file.name | split(**{'a': 1}) | first }}",
    ] {
        let (place, said, _) = problem(text);
        assert!(place.starts_with('*'), "{place}");
        assert_eq!(said, "`*` cannot stand in an expression that makes a list");
    }
    assert_eq!(
        rendered("${{ (file.size + 1) * 8 }} ${{ 2 ** 10 }}"),
        "9880 1024"
    );
    assert_eq!(
        rendered("${{ 'ab' * 3 }}${{ file.extension * 2 }}"),
        "abababgzgz"
    );
}

#[test]
fn extreme_numbers_neither_panic_nor_hang() {
    let world = World::new();
    for expression in [
        "'abc'[::-9223372036854775808]",
        "'abc'[-9223372036854775808:9223372036854775807]",
        "[1, 2][::-9223372036854775808] | length",
        "[1, 2][9223372036854775807:-9223372036854775808:3] | length",
        "'abc'[9223372036854775807]",
        "[1][-9223372036854775808]",
        "9 ** 9 ** 9 ** 9",
        "2 ** 127 * 2",
        "-9223372036854775808 // -1",
        "340282366920938463463374607431768211455 + 1",
        "1e308 * 10",
        "0.1 % 1e-300",
        "file.size ** 1e300",
        "5 % 0",
        "1e999",
        "'a' * -1",
        "'a' * 340282366920938463463374607431768211455",
    ] {
        for text in [
            format!("${{{{ {expression} }}}}"),
            format!("${{{{ ({expression}) if file.size else '' }}}}"),
        ] {
            if let Ok(template) = Template::parse(&text, Scope::File, &world.known()) {
                let _ = world.with_values(|values| template.render(values));
            }
        }
    }
}

/// Pieces of which some random order is an expression.
const PIECES: [&str; 56] = [
    "file",
    "file.name",
    "file.size",
    "row",
    "row.pages",
    "row['a']",
    "capture.year",
    "vars",
    "env",
    "env.TEAM",
    "env('TEAM')",
    "env('NO', '')",
    "sidecar",
    "nope",
    ".",
    "name",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "=",
    "|",
    "lower",
    "replace",
    "split('.')",
    "default('x')",
    "shout",
    "is",
    "not",
    "defined",
    "in",
    "and",
    "or",
    "if",
    "else",
    "true",
    "none",
    "1",
    "2.5",
    "'a'",
    "\"b\"",
    "~",
    "+",
    "-",
    "*",
    "**",
    "/",
    "%",
    "==",
    "<",
    "!=",
    "é",
];

fn soup() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(PIECES.as_slice());
    let pieces = proptest::collection::vec((piece, any::<bool>()), 1..14);
    pieces.prop_map(|pieces| {
        let spaces = pieces.into_iter().map(|(piece, spaced)| {
            let space = if spaced { " " } else { "" };
            [piece, space].concat()
        });
        spaces.collect()
    })
}

/// Expressions that the engine can parse, for the most part.
fn expression() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(
        [
            "file.name",
            "file.size",
            "row.pages",
            "row['a']",
            "row",
            "capture.year",
            "vars.acme",
            "vars",
            "env.TEAM",
            "env('NO', 'x')",
            "sidecar.author",
            "nope.x",
            "loop",
            "true",
            "none",
            "1",
            "'a'",
            "'}}'",
            "[]",
            "in",
        ]
        .as_slice(),
    );
    leaf.prop_map(str::to_owned)
        .prop_recursive(5, 40, 3, |inner| {
            let one = proptest::sample::select(
                [
                    "({})",
                    "-{}",
                    "not {}",
                    "{}|lower",
                    "{}|split('.')",
                    "{} | first",
                    "{}|nope(1)",
                    "{}.name",
                    "{}.lower()",
                    "{}[0]",
                    "{}[1:]",
                    "{} is defined",
                    "{} is not odd",
                    "[{}]",
                    "{'k': {}}",
                    "row[{}]",
                    "env({})",
                    "range({})",
                    "{}|length > 1",
                ]
                .as_slice(),
            );
            let two = proptest::sample::select(
                [
                    "{} ~ {}",
                    "{} + {}",
                    "{} == {}",
                    "{} < {}",
                    "{} and {}",
                    "{} in {}",
                    "{} not in {}",
                    "{}|default({})",
                    "{} * {}",
                    "({}, {})",
                    "{}[{}:{}]",
                    "{} if {} else 'z'",
                    "{}|replace({}, 'q')",
                ]
                .as_slice(),
            );
            let fill = |shape: &str, with: &[&String]| {
                let mut filled = String::new();
                let mut with = with.iter().cycle();
                for (number, part) in shape.split("{}").enumerate() {
                    if number > 0 {
                        filled.push_str(with.next().expect("cycles"));
                    }
                    filled.push_str(part);
                }
                filled
            };
            prop_oneof![
                (one, inner.clone()).prop_map(move |(shape, a)| fill(shape, &[&a])),
                (two, inner.clone(), inner).prop_map(move |(shape, a, b)| fill(shape, &[&a, &b])),
            ]
        })
}

/// The checks must see what the engine will see, and leave nothing for it to find unknown.
fn the_check_agrees_with_the_engine(source: &str) {
    let world = World::new();
    let known = world.known();
    let text = format!("a ${{{{{source}}}}} b");
    if expression_end(&text, 5) != Some(5 + source.len()) {
        return;
    }
    let parsed = Template::parse(&text, Scope::File, &known);
    let Ok(tokens) = super::tokens::tokens(source) else {
        return;
    };
    let checked = super::check::check(source, &tokens, Scope::File, &known);
    if checked.hazard.is_some() {
        assert!(parsed.is_err());
        return;
    }
    let mut engine = minijinja::Environment::empty();
    engine.set_fuel(Some(1_000));
    let compiled = engine.compile_expression(source);
    if let Ok(compiled) = &compiled
        && checked.errors.is_empty()
    {
        let mut seen: Vec<&str> = checked
            .references
            .iter()
            .map(|reference| reference.group.word())
            .collect();
        seen.sort_unstable();
        seen.dedup();
        let mut names: Vec<String> = compiled.undeclared_variables(false).into_iter().collect();
        names.sort_unstable();
        if source.contains(':') {
            // The engine's own list leaves out what is sliced.
            seen.retain(|name| names.iter().any(|engines| engines == name));
        }
        assert_eq!(seen, names, "{source}");
    }
    match parsed {
        Ok(template) => {
            assert!(compiled.is_ok() && checked.errors.is_empty(), "{source}");
            if let Err(error) = world.with_values(|values| template.render(values)) {
                assert!(text.get(error.range.clone()).is_some(), "{source}");
                for word in ["is unknown", "unknown method", "too many arguments"] {
                    assert!(!error.message.contains(word), "{source}: {error}");
                }
            }
        }
        Err(errors) => {
            for error in errors {
                assert!(
                    text.get(error.range.clone()).is_some(),
                    "{source} {error:?}"
                );
            }
        }
    }
    let _ = Condition::parse(source, Scope::File, &known)
        .map(|condition| world.with_values(|values| condition.holds(values)));
}

proptest! {
    #[test]
    fn any_text_is_checked_as_the_engine_reads_it(source in soup()) {
        the_check_agrees_with_the_engine(&source);
    }

    #[test]
    fn any_expression_is_checked_as_the_engine_reads_it(source in expression()) {
        the_check_agrees_with_the_engine(&source);
    }
}
