//! Tests of words and their expansion, and of words that cannot be expanded.

use super::{
    ExpandError, LENGTH_LIMIT, expand, expand_and_find_unset, expand_heredoc, expand_heredoc_and_find_unset,
    expand_words, has_variable,
};

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "V" | "SET" => "val",
        "EMPTY" => "",
        "P" => "/usr/lib/lib.so.1",
        "F" => "foo/bar/foo",
        "STAR" => "a*b*c",
        "PORTS" => "80 90/udp  ",
        "é" => "accent",
        "QUOTED" => "'x' \"y\" \\z $V",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expanded(word: &str) -> Result<String, ExpandError> {
    expand(word, '\\', &mut |name| variable(name))
}

#[test]
fn quotes_and_escapes() {
    for (word, expected) in [
        ("plain", "plain"),
        ("'$V'", "$V"),
        ("\"$V\"", "val"),
        ("\\$V", "$V"),
        ("\"\\$V\"", "$V"),
        ("'\\$V'", "\\$V"),
        ("\"'$V'\"", "'val'"),
        ("'\"$V\"'", "\"$V\""),
        ("\\\\$V", "\\val"),
        ("\"\\\\$V\"", "\\val"),
        ("pre\"mid\"'post'", "premidpost"),
        ("in\\\"ner", "in\"ner"),
        ("four\\ words", "four words"),
        ("\"a\\nb\"", "a\\nb"),
        ("a\\nb", "anb"),
        ("end\\", "end"),
        ("\"end\\", "unexpected end of statement while looking for matching double-quote"),
        ("$QUOTED", "'x' \"y\" \\z $V"),
        ("'open", "unexpected end of statement while looking for matching single-quote"),
        ("\"open", "unexpected end of statement while looking for matching double-quote"),
    ] {
        assert_eq!(expanded(word).unwrap_or_else(|error| error.message), expected, "{word}");
    }
    assert_eq!(expand("c:\\x`$V\"a`\"b\"", '`', &mut |name| variable(name)).as_deref(), Ok("c:\\x$Va\"b"));
    assert_eq!(expand("\"c:\\\\x\"", '`', &mut |name| variable(name)).as_deref(), Ok("c:\\\\x"));
}

#[test]
fn names() {
    for (word, expected) in [
        ("$V", "val"),
        ("${V}x", "valx"),
        ("x$UNDEFINEDy", "x"),
        ("${UNDEFINED}z", "z"),
        ("a$", "a$"),
        ("\"a$\"", "a$"),
        ("$ V", "$ V"),
        ("$1x", "x"),
        ("$12x", "x"),
        ("$$", ""),
        ("$@$*$#$?$-$!$0", ""),
        ("$é", "accent"),
        ("${é}", "accent"),
        ("$V.$V-$V/$V", "val.val-val/val"),
        ("${1}${@}", ""),
    ] {
        assert_eq!(expanded(word).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn alternatives() {
    for (word, expected) in [
        ("${SET:-d}", "val"),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-d}", "d"),
        ("${SET-d}", "val"),
        ("[${EMPTY-d}]", "[]"),
        ("${NONE-d}", "d"),
        ("${SET:+p}", "p"),
        ("[${EMPTY:+p}]", "[]"),
        ("[${NONE:+p}]", "[]"),
        ("${SET+p}", "p"),
        ("${EMPTY+p}", "p"),
        ("[${NONE+p}]", "[]"),
        ("${SET:?m}", "val"),
        ("[${EMPTY?m}]", "[]"),
        ("${X:-${Y:-${V}z}}", "valz"),
        ("${V:+<${V}>}", "<val>"),
        ("${X:-\"q q\"}", "q q"),
        ("${X:-'$A'}", "$A"),
        ("${X:-\\}}", "}"),
        ("\"${X:-a b}\"", "a b"),
        ("${X:-}", ""),
        ("${NONE?}", "NONE: is not allowed to be unset"),
        ("${NONE:?}", "NONE: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NONE:?must be $V}", "NONE: must be val"),
    ] {
        assert_eq!(expanded(word).unwrap_or_else(|error| error.message), expected, "{word}");
    }
}

#[test]
fn trimming_and_replacing() {
    for (word, expected) in [
        ("${P#*/}", "usr/lib/lib.so.1"),
        ("${P##*/}", "lib.so.1"),
        ("${P%.*}", "/usr/lib/lib.so"),
        ("${P%%.*}", "/usr/lib/lib"),
        ("${P#zzz}", "/usr/lib/lib.so.1"),
        ("${P#?usr}", "/lib/lib.so.1"),
        ("${STAR#*\\*}", "b*c"),
        ("[${P##*}]", "[]"),
        ("${F/foo/X}", "X/bar/foo"),
        ("${F//foo/X}", "X/bar/X"),
        ("${F//foo/}", "/bar/"),
        ("${F/o*r/-}", "f-/foo"),
        ("${F//\\//_}", "foo_bar_foo"),
        ("${F/zip/zap}", "foo/bar/foo"),
        ("${F/bar/$F}", "foo/foo/bar/foo/foo"),
        ("${NONE#x}${NONE/x/y}", ""),
    ] {
        assert_eq!(expanded(word).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn errors_say_what_and_where() {
    for (word, offset, message) in [
        ("a${}", 1, "syntax error: bad substitution"),
        ("${:x}", 0, "syntax error: bad substitution"),
        ("${{x}", 0, "syntax error: bad substitution"),
        ("${OPEN", 0, "syntax error: missing '}'"),
        ("${", 0, "syntax error: missing '}'"),
        ("${X:", 0, "syntax error: missing '}'"),
        ("${X:-a", 0, "syntax error: missing '}'"),
        ("${X:-${Y", 0, "syntax error: missing '}'"),
        ("${P//foo}", 0, "syntax error: missing '/' in ${}"),
        ("${P/a/b", 0, "syntax error: missing '}'"),
        ("x${V:=x}", 4, "unsupported modifier (:=) in substitution"),
        ("${V:#x}", 3, "unsupported modifier (:#) in substitution"),
        ("${V,,}", 3, "unsupported modifier (,) in substitution"),
        ("${V x}", 3, "unsupported modifier ( ) in substitution"),
        ("${V:-${N?no}}", 5, "N: no"),
        ("a 'b", 2, "unexpected end of statement while looking for matching single-quote"),
    ] {
        let error = expanded(word).expect_err(word);
        assert_eq!((error.offset, error.message.as_str()), (offset, message), "{word}");
    }
    assert_eq!(
        expanded("${OPEN").expect_err("open").to_string(),
        "failed to process \"${OPEN\": syntax error: missing '}'"
    );
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}x{}", "${N:-".repeat(depth), "}".repeat(depth));
    assert_eq!(expanded(&nested(100)).as_deref(), Ok("x"));
    assert_eq!(
        expanded(&nested(20_000)).expect_err("deep").message,
        "syntax error: substitutions are nested too deeply"
    );
}

#[test]
fn words_split_where_white_space_was_not_quoted() {
    for (word, expected) in [
        ("$PORTS", &["80", "90/udp"][..]),
        ("\"$PORTS\"", &["80 90/udp  "]),
        ("a$PORTS", &["a80", "90/udp"]),
        ("1${NONE}2", &["12"]),
        ("$NONE", &[]),
        ("\"\"", &[]),
        ("a\\ b c", &["a b", "c"]),
    ] {
        assert_eq!(expand_words(word, '\\', &mut |name| variable(name)).expect(word), expected, "{word}");
    }
}

#[test]
fn heredoc_bodies_keep_their_quotes() {
    let body = "$V ${X:-x} \\$V\n  \"q\" 'single $V' it's a\\b\n";
    assert_eq!(
        expand_heredoc(body, &mut |name| variable(name)).as_deref(),
        Ok("val x $V\n  \"q\" 'single val' it's ab\n")
    );
}

#[test]
fn variables_are_recognized_without_expanding() {
    for (word, expected) in
        [("$S", true), ("a${S}", true), ("\\$S", false), ("a$", false), ("stage", false), ("a$/b", false)]
    {
        assert_eq!(has_variable(word, '\\'), expected, "{word}");
    }
}

#[test]
fn unset_variables_are_found() {
    for (word, text, unset) in [
        ("$V$NONE-$NONE${OTHER}", "val-", &["NONE", "OTHER"][..]),
        ("${NONE:-$V}${NONE+x}${V:-${OTHER}}", "valval", &["OTHER"]),
        ("${NONE#x}${NONE/a/$OTHER}", "", &["NONE", "OTHER"]),
        ("'$NONE'\\$NONE$EMPTY", "$NONE$NONE", &[]),
    ] {
        let expanded = expand_and_find_unset(word, '\\', &mut |name| variable(name)).expect(word);
        assert_eq!(
            (expanded.text.as_str(), expanded.unset.as_slice()),
            (text, unset.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().as_slice()),
            "{word}"
        );
    }
    let body = expand_heredoc_and_find_unset("'$NONE' \\$V", &mut |name| variable(name)).expect("it expands");
    assert_eq!((body.text.as_str(), body.unset), ("'' $V", vec!["NONE".to_owned()]));
}

#[test]
fn the_length_of_a_value_is_bounded() {
    let value = "x".repeat(LENGTH_LIMIT / 2);
    let mut lookup = |name: &str| Some(if name == "A" { value.clone() } else { "yyy".to_owned() });
    assert_eq!(expand("$A$A", '\\', &mut lookup).map(|text| text.len()), Ok(LENGTH_LIMIT));
    for (word, offset) in [("$A$A$B", 4), ("z\"$A${A}$B\"", 8), ("${C:-$A$A$A}", 9)] {
        let mut lookup = |name: &str| if name == "C" { None } else { lookup(name) };
        let error = expand(word, '\\', &mut lookup).expect_err(word);
        assert_eq!(error.message, "the value would be longer than 16777216 bytes", "{word}");
        assert_eq!(error.offset, offset, "{word}");
    }
    let error = expand("${A//x/$B}", '\\', &mut lookup).expect_err("three times as long");
    assert_eq!(error.offset, 0);
    // An empty pattern matches between all characters, so each level multiplies the length. Found by fuzzing.
    let value = "z".repeat(64);
    let word = format!("{}x{}", "${e///".repeat(8), "}".repeat(8));
    assert!(expand(&word, '\\', &mut |_| Some(value.clone())).is_err());
}

#[test]
fn the_length_of_a_pattern_is_bounded() {
    let lookup = &mut |_: &str| Some("v".to_owned());
    for word in ["${V//PATTERN/x}", "${V#PATTERN}", "${V%%PATTERN}"] {
        let with = |length| word.replace("PATTERN", &"a".repeat(length));
        let error = expand(&with(5000), '\\', lookup).expect_err(word);
        assert!(error.message.contains("pattern would be longer"), "{error}");
        assert_eq!(expand(&with(4000), '\\', lookup).as_deref(), Ok("v"), "{word}");
    }
}
