//! Tests of the whole language: tables for the rules of the reference, and properties that hold for any text.

use proptest::prelude::*;

use super::ast::{Command, Dockerfile, Healthcheck, Instruction, Kind, Source, Span, Word};
use super::{ParseError, expand, parse, parse_trigger};

fn source(text: &str) -> Source {
    Source { name: "Dockerfile".to_owned(), text: text.to_owned() }
}

fn parsed(text: &str) -> Dockerfile {
    parse(source(text)).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

fn errors(text: &str) -> Vec<ParseError> {
    parse(source(text)).err().map(|invalid| invalid.errors).unwrap_or_default()
}

/// Returns the only instruction after `FROM a`.
fn instruction(text: &str) -> Instruction {
    let file = parsed(&format!("FROM a\n{text}"));
    assert_eq!(file.stages[0].instructions.len(), 1, "{text}");
    file.stages[0].instructions[0].clone()
}

/// Returns the error of one instruction: message and the text under the caret.
fn complaint(text: &str) -> (String, String) {
    let text = format!("FROM a\n{text}");
    let errors = errors(&text);
    assert_eq!(errors.len(), 1, "{text}: {errors:?}");
    (errors[0].message.clone(), text[errors[0].span.clone()].to_owned())
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

#[test]
fn a_whole_file() {
    let text = "# syntax=docker/dockerfile:1\nARG V=1\n\nfrom --platform=$P a:$V as Build\nRUN x\n\nFROM Build\nCOPY --from=build /x \\\n  /y\n";
    let file = parsed(text);
    assert_eq!(file.escape, '\\');
    assert_eq!(file.syntax.as_ref().map(|word| word.text.as_str()), Some("docker/dockerfile:1"));
    assert_eq!(file.global_args.len(), 1);
    let [build, last] = file.stages.as_slice() else { panic!("two stages") };
    assert_eq!(build.from.text, "from --platform=$P a:$V as Build");
    assert_eq!(build.from.image.text, "a:$V");
    assert_eq!(build.from.platform.as_ref().map(|word| word.text.as_str()), Some("$P"));
    let name = build.from.name.as_ref().expect("a name");
    assert_eq!((name.text.as_str(), &text[name.span.clone()]), ("build", "Build"));
    assert_eq!(last.from.image.text, "Build");
    let copy = &last.instructions[0];
    assert_eq!(copy.text, "COPY --from=build /x   /y");
    assert_eq!(&text[copy.span.clone()], "COPY --from=build /x \\\n  /y");
}

#[test]
fn texts_keep_inner_blanks_and_commands_are_verbatim() {
    for (text, command) in [
        (
            "RUN    echo  \"a   b\"   >   /out  &&  \\\n       true   # tail  ",
            "echo  \"a   b\"   >   /out  &&         true   # tail",
        ),
        ("run\techo x", "echo x"),
        ("RU\\\nN echo wo\\\nrd", "echo word"),
        ("RUN --network=none   true", "true"),
        ("RUN true --mount=type=nope", "true --mount=type=nope"),
        ("RUN -- --x", "--x"),
        ("RUN ['a']", "['a']"),
        ("RUN [\"a\"] b", "[\"a\"] b"),
        ("RUN [ -d /bin ] && x", "[ -d /bin ] && x"),
        ("RUN", ""),
    ] {
        let Kind::Run(run) = instruction(text).kind else { panic!("{text}") };
        assert_eq!(run.command, Command::Shell(command.to_owned()), "{text}");
    }
    for (text, words) in [
        ("CMD [ \\\n  \"one\", \\\n  # between\n  \"two\" \\\n]", &["one", "two"][..]),
        ("CMD []", &[]),
        ("CMD [\"a\\tb\"]", &["a\tb"]),
    ] {
        let Kind::Cmd(command) = instruction(text).kind else { panic!("{text}") };
        assert_eq!(command, Command::Exec(words.iter().map(|&word| word.to_owned()).collect()), "{text}");
    }
}

#[test]
fn pairs() {
    for (text, pairs, legacy) in [
        ("ENV A=1 B=\"two words\" C=", &[("A", "1"), ("B", "\"two words\""), ("C", "")][..], false),
        ("ENV A=b=c", &[("A", "b=c")], false),
        ("ENV A x  y", &[("A", "x  y")], true),
        ("ENV A = b", &[("A", "= b")], true),
        ("LABEL \"b c\"='d e' \\\n  x=1", &[("\"b c\"", "'d e'"), ("x", "1")], false),
        ("LABEL $K=$V", &[("$K", "$V")], false),
    ] {
        let (Kind::Env(found) | Kind::Label(found)) = instruction(text).kind else { panic!("{text}") };
        let found_pairs =
            found.iter().map(|pair| (pair.key.text.as_str(), pair.value.text.as_str())).collect::<Vec<_>>();
        assert_eq!(found_pairs, pairs, "{text}");
        assert!(found.iter().all(|pair| pair.legacy == legacy), "{text}");
    }
    let Kind::Arg(arguments) = instruction("ARG A B=1 C= D=\"x y\"").kind else { panic!("ARG") };
    let arguments = arguments
        .iter()
        .map(|argument| (argument.name.text.as_str(), argument.default.as_ref().map(|word| word.text.as_str())))
        .collect::<Vec<_>>();
    assert_eq!(arguments, [("A", None), ("B", Some("1")), ("C", Some("")), ("D", Some("\"x y\""))]);
}

#[test]
fn copies() {
    let text = "COPY --link=false --chown=a:b --exclude=*.o --exclude=x --parents a \\\n b /c/";
    let Kind::Copy(copy) = instruction(text).kind else { panic!("COPY") };
    assert!(!copy.add);
    assert_eq!(texts(&copy.sources), ["a", "b"]);
    assert_eq!(copy.destination.text, "/c/");
    assert_eq!(texts(&copy.excludes), ["*.o", "x"]);
    assert_eq!(copy.link.map(|flag| flag.value), Some(false));
    assert_eq!(copy.parents.map(|flag| flag.value), Some(true));
    assert_eq!(copy.chown.map(|word| word.text).as_deref(), Some("a:b"));
    let Kind::Copy(json) = instruction("ADD --unpack [\"with space\", \"$x\", \"/to dir/\"]").kind else {
        panic!("ADD")
    };
    assert!(json.add && json.unpack.is_some());
    assert_eq!(texts(&json.sources), ["with space", "$x"]);
    assert_eq!(json.destination.text, "/to dir/");
    let Kind::Copy(mixed) = instruction("COPY <<one a <<'two 2' /d/\n1\none\n2\ntwo 2").kind else { panic!("COPY") };
    assert_eq!(texts(&mixed.sources), ["a"]);
    let heredocs = mixed.heredocs.iter().map(|heredoc| (heredoc.name.as_str(), heredoc.body.as_str(), heredoc.expand));
    assert_eq!(heredocs.collect::<Vec<_>>(), [("one", "1\n", true), ("two 2", "2\n", false)]);
}

#[test]
fn here_documents_of_run() {
    for (text, command, bodies, script) in [
        ("RUN <<EOF\na\n  b\nEOF", "<<EOF", &["a\n  b\n"][..], true),
        ("RUN <<-EOF\n\t\ta\n\tb\\\n\tEOF\n", "<<-EOF", &["a\nb\\\n"], true),
        ("RUN <<EOF\n# kept\n\nx \\\nEOF", "<<EOF", &["# kept\n\nx \\\n"], true),
        ("RUN --mount=target=/m <<EOF\nx\nEOF", "<<EOF", &["x\n"], true),
        ("RUN <<EOF sh\nx\nEOF", "<<EOF sh", &["x\n"], false),
        ("RUN cat <<A && cat 3<<'B'\n1\nA\n2\nB", "cat <<A && cat 3<<'B'", &["1\n", "2\n"], false),
        ("RUN x && \\\n cat <<EOF > y\nz\nEOF", "x &&  cat <<EOF > y", &["z\n"], false),
        ("RUN cat <<EOF\nEOF", "cat <<EOF", &[""], false),
        ("RUN <<EOF\r\nx\r\nEOF\r\n", "<<EOF", &["x\r\n"], true),
        ("RUN [\"cat\", \"<<EOF\"]", "", &[], false),
    ] {
        let instruction = instruction(text);
        let Kind::Run(run) = &instruction.kind else { panic!("{text}") };
        let found = run.heredocs.iter().map(|heredoc| heredoc.body.as_str()).collect::<Vec<_>>();
        assert_eq!(found, bodies, "{text}");
        assert_eq!(run.script().is_some(), script, "{text}");
        if let Command::Shell(text) = &run.command {
            assert_eq!(text, command);
        }
        let end = instruction.span.end;
        assert_eq!(end, "FROM a\n".len() + text.trim_end().len(), "{text}: the terminator belongs to the instruction");
    }
    let Kind::Run(run) = instruction("RUN cat <<-EOF\n\tx\n\tEOF").kind else { panic!("RUN") };
    assert_eq!(run.heredocs[0].body_span, 22..25, "as written, with its tab");
    let (message, caret) = complaint("RUN a <<EOF\nx\n EOF\nCMD y");
    assert_eq!((message.as_str(), caret.as_str()), ("unterminated heredoc EOF", "<<EOF"));
    assert!(errors("FROM a\nRUN a <<EOF\n EOF")[0].hint.as_deref().is_some_and(|hint| hint.contains("without blanks")));
}

#[test]
fn expansion_errors_point_into_the_file() {
    let text = "FROM a\nLABEL x=${A:=1}";
    let file = parsed(text);
    let Kind::Label(pairs) = &file.stages[0].instructions[0].kind else { panic!("LABEL") };
    let value = &pairs[0].value;
    let error = expand::expand(&value.text, file.escape, &mut |_| None).expect_err("a modifier");
    let error = error.at(value, &file.source);
    assert_eq!(&text[error.span.clone()], ":=1}");
    assert_eq!(
        error.to_string(),
        "Dockerfile:2:12: failed to process \"${A:=1}\": unsupported modifier (:=) in substitution"
    );
}

#[test]
fn only_three_instructions_take_here_documents() {
    let file = parsed("FROM a\nCMD cat <<EOF\nENV A=<<EOF\nLABEL x=<<EOF");
    assert_eq!(file.stages[0].instructions.len(), 3);
}

#[test]
fn triggers_are_stored_and_parsed_later() {
    for (text, trigger) in [
        ("ONBUILD RUN echo \"hi\"   there", "RUN echo \"hi\"   there"),
        ("onbuild  copy . /x", "copy . /x"),
        ("ONBUILD NOPE x", "NOPE x"),
        ("ONBUILD COPY only-one", "COPY only-one"),
        ("ONBUILD RUN a \\\n  b", "RUN a   b"),
        ("ONBUILD RUN <<-A cat <<B\n\t1\n\tA\n2\nB", "RUN <<-A cat <<B\n\t1\nA\n2\nB"),
    ] {
        let Kind::Onbuild(onbuild) = instruction(text).kind else { panic!("{text}") };
        assert_eq!(onbuild.trigger, trigger);
    }
    let trigger = Source { name: "ONBUILD of x".to_owned(), text: "RUN <<A\n1\nA".to_owned() };
    let instructions = parse_trigger(trigger, '\\').expect("a trigger");
    let [Instruction { kind: Kind::Run(run), source, .. }] = instructions.as_slice() else { panic!("one RUN") };
    assert_eq!(run.heredocs[0].body, "1\n");
    assert_eq!(source.name, "ONBUILD of x");
    for (text, message) in [
        ("NOPE x", "unknown instruction: NOPE"),
        (
            "COPY x",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUN x", "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("", "onbuild trigger should be a single expression"),
    ] {
        let errors = parse_trigger(source_named(text), '\\').expect_err(text);
        assert_eq!(errors[0].message, message, "{text}");
    }
}

fn source_named(text: &str) -> Source {
    Source { name: "trigger".to_owned(), text: text.to_owned() }
}

#[test]
fn healthchecks() {
    let text = "HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --start-interval=500ms --retries=7 \\\n  CMD a || b";
    let Kind::Healthcheck(check) = instruction(text).kind else { panic!("HEALTHCHECK") };
    let command = Command::Shell("a || b".to_owned());
    let (interval, timeout) = (300_000_000_000, 3_000_000_000);
    let (start_period, start_interval) = (90_000_000_000, 500_000_000);
    assert_eq!(check, Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries: 7 });
    let Kind::Healthcheck(check) = instruction("healthcheck cmd [\"a\", \"b\"]").kind else { panic!("HEALTHCHECK") };
    assert!(
        matches!(check, Healthcheck::Check { command: Command::Exec(words), interval: 0, .. } if words == ["a", "b"])
    );
    let Kind::Healthcheck(check) = instruction("HEALTHCHECK none").kind else { panic!("HEALTHCHECK") };
    assert_eq!(check, Healthcheck::None);
}

#[test]
fn the_remaining_instructions() {
    let one = |text: &str| match instruction(text).kind {
        Kind::User(word) | Kind::Workdir(word) | Kind::StopSignal(word) | Kind::Maintainer(word) => word.text,
        other => panic!("{other:?}"),
    };
    assert_eq!(one("USER  quoted user "), "quoted user");
    assert_eq!(one("WORKDIR \"/quoted dir\""), "\"/quoted dir\"");
    assert_eq!(one("STOPSIGNAL SIGINT SIGTERM"), "SIGINT SIGTERM");
    assert_eq!(one("MAINTAINER  Some One <some@one.test>"), "Some One <some@one.test>");
    let many = |text: &str| match instruction(text).kind {
        Kind::Expose(words) | Kind::Volume(words) => words.into_iter().map(|word| word.text).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(many("EXPOSE 80 $P/udp"), ["80", "$P/udp"]);
    assert_eq!(many("VOLUME /a /b"), ["/a", "/b"]);
    assert_eq!(many("VOLUME [\"/a\", \" /b c \"]"), ["/a", "/b c"]);
    let Kind::Shell(shell) = instruction("SHELL [\"/bin/sh\", \"-c\"]").kind else { panic!("SHELL") };
    assert_eq!(shell, ["/bin/sh", "-c"]);
}

#[test]
fn complaints_and_carets() {
    for (text, message, caret) in [
        ("RNU true", "unknown instruction: RNU", "RNU"),
        ("COPY --chwon=1 a b", "unknown flag: --chwon", "--chwon=1"),
        ("COPY --chmod=1 --chmod=2 a b", "duplicate flag specified: --chmod", "--chmod=2"),
        ("ADD --from=x a b", "unknown flag: --from", "--from=x"),
        ("ENV --x a=b", "unknown flag: --x", "--x"),
        ("CMD [\"a\", 5]", "when using JSON array syntax, arrays must be comprised of strings only", "5"),
        ("ONBUILD CMD [null]", "when using JSON array syntax, arrays must be comprised of strings only", "null"),
        ("COPY", "COPY requires at least two arguments", "COPY"),
        ("COPY <<a <<b\nb\nb\nb", "unterminated heredoc a", "<<a"),
        ("COPY x <<b\nb", "COPY cannot accept a heredoc as a destination", "<<b"),
        ("COPY <<a <<b\na\nb", "COPY cannot accept a heredoc as a destination", "<<b"),
        ("ENV", "ENV requires at least one argument", "ENV"),
        ("ENV A", "ENV must have two arguments", "A"),
        ("ENV =x", "ENV names can not be blank", "=x"),
        ("LABEL a=1 b c=2", "Syntax error - can't find = in \"b\". Must be of the form: name=value", "b"),
        ("ONBUILD ENV A", "ENV must have two arguments", "A"),
        ("ARG a =x", "ARG names can not be blank", "=x"),
        ("USER", "USER requires exactly one argument", "USER"),
        ("EXPOSE", "EXPOSE requires at least one argument", "EXPOSE"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string", "\"\""),
        ("VOLUME []", "VOLUME requires at least one argument", "VOLUME"),
        ("SHELL /bin/sh -c", "SHELL requires the arguments to be in JSON form", "/bin/sh -c"),
        ("SHELL []", "SHELL requires at least one argument", "SHELL"),
        ("SHELL", "SHELL requires at least one argument", "SHELL"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument", "HEALTHCHECK"),
        ("HEALTHCHECK run x", "unknown type \"RUN\" in HEALTHCHECK (try CMD)", "run"),
        ("HEALTHCHECK CMD []", "missing command after HEALTHCHECK CMD", "CMD"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)", "-1"),
        ("HEALTHCHECK --retries=x CMD x", "invalid value \"x\" for --retries: expected a whole number", "x"),
        ("HEALTHCHECK --timeout=10us CMD x", "Interval \"timeout\" cannot be less than 1ms", "10us"),
        ("HEALTHCHECK NONE x y", "HEALTHCHECK NONE takes no arguments", "x y"),
        ("RUN --network=mars x", "invalid network mode \"mars\"", "mars"),
        ("RUN --security=none x", "invalid security mode \"none\"", "none"),
        ("ONBUILD", "ONBUILD requires at least one argument", "ONBUILD"),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger", "from"),
        ("FROM", "FROM requires either one or three arguments", "FROM"),
        ("FROM a b", "FROM requires either one or three arguments", "b"),
        (
            "FROM a AS 1st",
            "invalid name for build stage: \"1st\", name can't start with a number or contain symbols",
            "1st",
        ),
        ("FROM a b c d", "FROM requires either one or three arguments", "b c d"),
    ] {
        assert_eq!(complaint(text), (message.to_owned(), caret.to_owned()), "{text}");
    }
}

#[test]
fn files_without_a_stage() {
    for (text, message) in [
        ("", "the Dockerfile cannot be empty"),
        ("\u{feff}", "file with no instructions"),
        ("# nothing\n\n# here", "file with no instructions"),
        ("RUN a\nRUN b", "no build stage in current context"),
        ("ARG A=1", "dockerfile contains no stages to build"),
        ("// syntax=other/frontend\nx", "unsupported frontend other/frontend"),
        ("{\"syntax\": \"other/frontend\"}", "unsupported frontend other/frontend"),
    ] {
        let errors = errors(text);
        assert_eq!(errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>(), [message], "{text}");
    }
}

#[test]
fn all_independent_errors_come_in_one_run_and_in_order() {
    let text = "FORM a\nRNU <<EOF\nCOPY x\nEOF\nCOPY --a --b x y\nUSER\nCMD ok\nFROM\nENV A\n";
    let messages = errors(text).into_iter().map(|error| error.to_string()).collect::<Vec<_>>();
    assert_eq!(
        messages,
        [
            "Dockerfile:1:1: unknown instruction: FORM",
            "Dockerfile:2:1: unknown instruction: RNU",
            "Dockerfile:5:6: unknown flag: --a",
            "Dockerfile:5:10: unknown flag: --b",
            "Dockerfile:6:1: USER requires exactly one argument",
            "Dockerfile:8:1: FROM requires either one or three arguments",
            "Dockerfile:9:5: ENV must have two arguments",
        ]
    );
}

#[test]
fn the_byte_order_mark_and_the_shebang_are_no_text() {
    assert_eq!(&parsed("\u{feff}FROM a").stages[0].from.span, &(3..9));
    let file = parsed("#!/usr/bin/env x\n# syntax=docker/dockerfile:1\nFROM a");
    assert!(file.syntax.is_some());
}

#[test]
fn the_escape_directive_moves_continuations_and_quoting() {
    let file = parsed("# escape=`\nFROM a\nENV W=c:\\ A=one`\ntwo B=x` y\n");
    assert_eq!(file.escape, '`');
    let Kind::Env(pairs) = &file.stages[0].instructions[0].kind else { panic!("ENV") };
    let values = pairs.iter().map(|pair| pair.value.text.as_str()).collect::<Vec<_>>();
    assert_eq!(values, ["c:\\", "onetwo", "x` y"]);
}

/// Returns every instruction but FROM.
fn instructions(file: &Dockerfile) -> impl Iterator<Item = &Instruction> {
    file.global_args.iter().chain(file.stages.iter().flat_map(|stage| &stage.instructions))
}

/// Returns every word of a file that parses. The fields of `--mount` have nested quotes and are tested in that module.
fn words(file: &Dockerfile) -> Vec<&Word> {
    let mut words: Vec<&Word> = Vec::new();
    words.extend([&file.syntax, &file.check].into_iter().flatten());
    for stage in &file.stages {
        words.push(&stage.from.image);
        words.extend([&stage.from.platform, &stage.from.name].into_iter().flatten());
    }
    for instruction in instructions(file) {
        match &instruction.kind {
            Kind::Copy(copy) => {
                words.extend(copy.sources.iter().chain([&copy.destination]).chain(&copy.excludes));
                words.extend([&copy.from, &copy.chown, &copy.chmod, &copy.checksum].into_iter().flatten());
            }
            Kind::Arg(arguments) => {
                words.extend(
                    arguments.iter().flat_map(|argument| [Some(&argument.name), argument.default.as_ref()]).flatten(),
                );
            }
            Kind::Env(pairs) | Kind::Label(pairs) => {
                words.extend(pairs.iter().flat_map(|pair| [&pair.key, &pair.value]));
            }
            Kind::Expose(list) | Kind::Volume(list) => words.extend(list),
            Kind::Run(run) => {
                words.extend(run.devices.iter().chain(&run.network).chain(&run.security));
            }
            Kind::Maintainer(text) | Kind::StopSignal(text) | Kind::User(text) | Kind::Workdir(text) => {
                words.push(text);
            }
            Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Healthcheck(_) | Kind::Onbuild(_) | Kind::Shell(_) => {}
        }
    }
    words
}

/// Returns every span of a file that parses.
fn spans(file: &Dockerfile) -> Vec<Span> {
    let mut spans: Vec<Span> = words(file).into_iter().map(|word| word.span.clone()).collect();
    spans.extend(file.stages.iter().map(|stage| stage.from.span.clone()));
    spans.extend(file.stages.iter().filter_map(|stage| stage.from.written.blank_line.clone()));
    for instruction in instructions(file) {
        spans.push(instruction.span.clone());
        spans.extend(instruction.written.blank_line.clone());
        if let Kind::Run(run) = &instruction.kind {
            spans.extend(run.mounts.iter().flat_map(|mount| &mount.fields).map(|field| field.span.clone()));
        }
        let (Kind::Copy(super::ast::Copy { heredocs, .. }) | Kind::Run(super::ast::Run { heredocs, .. })) =
            &instruction.kind
        else {
            continue;
        };
        spans.extend(heredocs.iter().flat_map(|heredoc| [heredoc.span.clone(), heredoc.body_span.clone()]));
    }
    spans
}

/// Returns a piece of a file with its continuation lines joined, and without the comments and blank lines between them.
fn joined(written: &str, escape: char) -> String {
    let mut text = String::new();
    for (number, line) in written.split('\n').enumerate() {
        let line = line.trim_end_matches('\r');
        // Fewer characters may precede a comment than a blank line may consist of.
        let is_comment = line.trim_start_matches([' ', '\t', '\r', '\x0c']).starts_with('#');
        if number > 0 && (line.trim_start().is_empty() || is_comment) {
            continue;
        }
        let continued =
            line.trim_end_matches([' ', '\t']).strip_suffix(escape).filter(|before| !before.ends_with(escape));
        text.push_str(continued.filter(|_| written.contains('\n')).unwrap_or(line));
    }
    text
}

/// Returns a flag's value without its quotes and escapes.
fn unquoted(written: &str) -> String {
    let mut text = String::new();
    let mut quote = None;
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            '"' | '\'' if quote.is_none() => quote = Some(character),
            _ if quote == Some(character) => quote = None,
            _ => text.push(character),
        }
    }
    text
}

/// Reports whether a word matches the text at its span: as written, as a flag's value, or as an element of a JSON
/// array.
fn is_at_its_span(word: &Word, written: &str, escape: char) -> bool {
    let joined = joined(written, escape);
    let json =
        || serde_json::from_str::<String>(&joined).is_ok_and(|text| word.text == text || word.text == text.trim());
    // VOLUME trims more kinds of blanks, an escape character at the end of the line has nothing to escape, and stage
    // names are converted to lower case.
    word.text == joined.trim()
        || word.text == joined
        || joined.strip_suffix(escape) == Some(&word.text)
        || word.text == joined.to_lowercase()
        || word.text == unquoted(&joined)
        || json()
}

/// Generates text that mostly consists of Dockerfile syntax.
fn dockerfile_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "FROM ", "from a AS b\n", "FROM a\n", "RUN ", "COPY ", "ADD ", "ENV ", "LABEL ", "ARG ", "CMD ", "EXPOSE ",
            "HEALTHCHECK ", "ONBUILD ", "SHELL ", "USER ", "VOLUME ", "WORKDIR ", "STOPSIGNAL ", "MAINTAINER ",
            "ENTRYPOINT ", "# escape=`\n", "# syntax=x\n", "#", "\\\n", "`\n", "\\ \n", "\n", "\r\n", "\t", " ", "\"", "'",
            "\\", "`", "=", "--", "--link", "--from=", "--mount=", "--chown=\"", "<<EOF", "<<-'E F'", "EOF\n", "EOF",
            "[\"a\", \"b\"]", "[\"", "[", "]", "[1]", ",", "$", "${", "}", ":-", "/", "#", "%", "CMD", "NONE", "é", "\u{feff}",
            "a", "a=b", "/x", "\u{b}", "\u{a0}",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,3}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_with_locations_in_it(text in prop_oneof![dockerfile_like(), any::<String>()], stage in any::<bool>()) {
        let text = if stage { format!("FROM a\n{text}") } else { text };
        let spans = match parse(source(&text)) {
            Ok(file) => spans(&file),
            Err(invalid) => {
                prop_assert!(!invalid.errors.is_empty());
                let rest = invalid.rest.as_ref().map(spans).unwrap_or_default();
                rest.into_iter().chain(invalid.errors.into_iter().map(|error| error.span)).collect()
            }
        };
        for span in spans {
            prop_assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
        }
    }

    #[test]
    fn every_word_is_at_its_span(text in dockerfile_like()) {
        let text = format!("FROM a\n{text}");
        if let Ok(file) = parse(source(&text)) {
            for word in words(&file) {
                let written = &text[word.span.clone()];
                prop_assert!(is_at_its_span(word, written, file.escape), "{:?} at {:?} of {:?}", word.text, written, text);
            }
        }
    }

    #[test]
    fn outside_instructions_are_comments_blank_lines_and_open_continuations(text in dockerfile_like()) {
        let text = format!("FROM a\n{text}");
        if let Ok(file) = parse(source(&text)) {
            let mut spans: Vec<Span> = file.stages.iter().map(|stage| stage.from.span.clone()).collect();
            let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
            spans.extend(file.global_args.iter().chain(instructions).map(|instruction| instruction.span.clone()));
            spans.sort_by_key(|span| span.start);
            let mut end = 0;
            spans.push(text.len()..text.len());
            for span in spans {
                prop_assert!(end <= span.start, "{span:?} overlaps what ends at {end} in {text:?}");
                for line in text[end..span.start].lines().map(|line| line.trim_start_matches('\u{feff}').trim()) {
                    let continues = line.strip_prefix(file.escape).is_some_and(str::is_empty);
                    prop_assert!(line.is_empty() || line.starts_with('#') || continues, "{line:?} is in no instruction of {text:?}");
                }
                end = span.end;
            }
        }
    }

    #[test]
    fn a_stored_trigger_can_be_parsed(text in dockerfile_like()) {
        if let Ok(file) = parse(source(&format!("FROM a\nONBUILD {text}"))) {
            for instruction in &file.stages[0].instructions {
                if let Kind::Onbuild(onbuild) = &instruction.kind {
                    match parse_trigger(source(&onbuild.trigger), file.escape) {
                        Ok(instructions) => prop_assert_eq!(instructions.len(), 1),
                        Err(errors) => prop_assert!(!errors.is_empty()),
                    }
                }
            }
        }
    }

    #[test]
    fn any_word_expands_or_is_refused_at_an_offset_in_it(
        word in prop_oneof![dockerfile_like(), "[${}:?+#%/*'\"\\\\ab-]{0,40}", any::<String>()],
        value in prop::option::of("[a*?/]{0,6}"),
    ) {
        for escape in ['\\', '`'] {
            if let Err(error) = expand::expand(&word, escape, &mut |_| value.clone()) {
                prop_assert!(word.is_char_boundary(error.offset), "{error:?}");
            }
            if let Err(error) = expand::expand_words(&word, escape, &mut |_| value.clone()) {
                prop_assert!(word.is_char_boundary(error.offset), "{error:?}");
            }
        }
        if let Err(error) = expand::expand_heredoc(&word, &mut |_| value.clone()) {
            prop_assert!(word.is_char_boundary(error.offset), "{error:?}");
        }
    }

    #[test]
    fn single_quotes_keep_any_text(text in "[^']{0,40}") {
        prop_assert_eq!(expand::expand(&format!("'{text}'"), '\\', &mut |_| None), Ok(text));
    }

    #[test]
    fn go_quotes_are_closed_and_printable(text in any::<String>()) {
        let quoted = super::go_quote(&text);
        prop_assert!(quoted.len() >= 2 && quoted.starts_with('"') && quoted.ends_with('"'));
        prop_assert!(!quoted.contains(char::is_control));
    }
}
