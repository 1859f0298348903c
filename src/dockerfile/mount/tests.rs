//! Tests of mount values and their meaning.

use proptest::prelude::*;

use super::meaning::bytes;
use super::*;

fn resolve(text: &str) -> Result<MountSpec, MountProblem> {
    let flag = MountFlag::parse(text, '\\').map_err(|problems| problems[0].clone())?;
    flag.resolve(&mut |word| Ok::<_, MountProblem>(word.text.replace("$A", "/a")))
}

#[test]
fn defaults_depend_on_the_type() {
    let owner = |mode| MountOwner { mode, uid: 0, gid: 0 };
    let bind = MountKind::Bind { from: None, source: String::new() };
    let target = Some("/a".to_owned());
    for (text, spec) in [
        ("target=$A", MountSpec { target: target.clone(), read_only: true, kind: bind.clone() }),
        ("TYPE=Bind,dst=/a,rw", MountSpec { target: target.clone(), read_only: false, kind: bind }),
        (
            "type=cache,destination=/a",
            MountSpec {
                target: target.clone(),
                read_only: false,
                kind: MountKind::Cache {
                    id: None,
                    sharing: Sharing::Shared,
                    from: None,
                    source: String::new(),
                    owner: owner(0o755),
                },
            },
        ),
        (
            "type=tmpfs,target=/a,size=1.5m",
            MountSpec { target, read_only: false, kind: MountKind::Tmpfs { size: Some(1_572_864) } },
        ),
        (
            "type=secret,target=/x/tok/",
            MountSpec {
                target: Some("/x/tok/".to_owned()),
                read_only: true,
                kind: MountKind::Secret { id: "tok".to_owned(), variable: None, required: false, owner: owner(0o400) },
            },
        ),
        (
            "type=ssh,required,mode=660,uid=5",
            MountSpec {
                target: None,
                read_only: true,
                kind: MountKind::Ssh {
                    id: "default".to_owned(),
                    required: true,
                    owner: MountOwner { mode: 0o660, uid: 5, gid: 0 },
                },
            },
        ),
    ] {
        assert_eq!(resolve(text), Ok(spec), "{text}");
    }
}

#[test]
fn errors_point_to_their_field() {
    for (text, at, message) in [
        ("target=/a,sorce=x", "sorce=x", "unexpected key 'sorce' in 'sorce=x'"),
        ("target=/a,source", "source", "invalid field 'source' must be a key=value pair"),
        ("target=/a,from=$X", "from=$X", "'from' doesn't support variable expansion, define alias stage instead"),
        ("target=/a/..", "target=/a/..", "invalid mount target \"/a/..\""),
        ("target=/", "target=/", "invalid mount target \"/\""),
        ("type=volume,target=/a", "type=volume", "unsupported mount type \"volume\""),
        ("source=x", "source=x", "a mount of type bind requires a target"),
        ("target=/a,size=1m", "size=1m", "unexpected key 'size' for mount type 'bind'"),
        ("target=/a,ro=perhaps", "ro=perhaps", "invalid value for readonly: perhaps"),
        ("type=cache,target=/a,sharing=x", "sharing=x", "unsupported sharing value \"x\""),
        ("type=cache,target=/a,mode=9", "mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/a,uid=me", "uid=me", "invalid value me for uid"),
        ("type=tmpfs,target=/a,size=1x", "size=1x", "invalid value 1x for size"),
        ("type=secret,id=a,src=b", "src=b", "a secret has an id or a source, not both"),
        ("type=secret", "type=secret", "a secret requires an id or a target"),
        ("target=/a,\"b", "\"b", "failed to parse csv mounts"),
        ("", "", "failed to parse csv mounts"),
    ] {
        let problem = resolve(text).expect_err(text);
        assert_eq!((&text[problem.span], problem.message.as_str()), (at, message), "{text}");
    }
    let hint = |text| resolve(text).expect_err(text).hint;
    assert_eq!(hint("traget=/a").as_deref(), Some("did you mean target?"));
    assert_eq!(hint("type=chache,target=/a").as_deref(), Some("did you mean cache?"));
}

#[test]
fn sizes_have_units() {
    for (text, size) in [
        ("64", Some(64)),
        ("64b", Some(64)),
        ("2k", Some(2048)),
        ("2KiB", Some(2048)),
        ("1gb", Some(1 << 30)),
        ("0.5m", Some(1 << 19)),
        ("", None),
        ("m", None),
        ("-1", None),
        ("1ib", None),
        ("1.2.3m", None),
        ("99999999999999p", None),
    ] {
        assert_eq!(bytes(text), size, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_inside_it(
        text in "((type|from|src|target|ro|id|size|mode|uid|env|x)?=?(bind|cache|tmpfs|secret|/|[0-9]|\\$é|\")?,?){0,5}",
    ) {
        let check = |span: &Span| text.get(span.clone()).is_some();
        match MountFlag::parse(&text, '\\') {
            Ok(flag) => {
                prop_assert!(flag.fields.iter().all(|field| check(&field.span)));
                let resolved = flag.resolve(&mut |word| Ok::<_, MountProblem>(word.text.clone()));
                if let Err(problem) = resolved { prop_assert!(check(&problem.span)); }
            }
            Err(problems) => prop_assert!(problems.iter().all(|problem| check(&problem.span))),
        }
    }
}
