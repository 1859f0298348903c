//! Contexts in buckets, from stand-ins for the services of three clouds that other people wrote.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::archive::Archive;
use crate::support::contexts::Place;
use crate::support::peers::peers;
use crate::support::program::stdout;
use crate::support::web::{Answer, Web};

/// A bucket of this test run alone.
fn bucket(name: &str) -> String {
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    // Google's stand-in reads no escapes in the name of a bucket.
    format!("{name}{}x{}", moment.as_millis(), std::process::id())
}

fn archive() -> Vec<u8> {
    Archive::context().file("a", b"A").gzip()
}

fn expected(place: &Place, command: &mut Command) {
    let files: BTreeMap<String, String> = place.build(command);
    assert_eq!(files.get("a").map(String::as_str), Some("A"), "{files:?}");
}

/// The key that the emulator of Azure documents.
const AZURE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// A key of the right form that nobody has.
const WRONG_AZURE_KEY: &str = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==";

/// A build of an object in Amazon's stand-in, for somebody with this secret.
fn s3(place: &Place, object: &str, secret: &str) -> Command {
    let mut command = place.command(&format!("s3://{object}"));
    command
        .env("S3_ENDPOINT", peers().s3())
        .env("S3_FORCE_PATH_STYLE", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", peers().s3_key())
        .env("AWS_SECRET_ACCESS_KEY", secret);
    command
}

#[test]
fn amazons_buckets() {
    let place = Place::new();
    let file = place.file("context.tar.gz", &archive());
    let bucket = bucket("s3");
    for key in ["context.tar.gz", "dir/with space.tgz"] {
        stdout(peers().fill_bucket("s3", peers().s3(), &bucket, key).arg(&file));
    }
    let secret = peers().s3_secret();
    expected(&place, &mut s3(&place, &bucket, secret));
    let place = Place::new();
    expected(&place, &mut s3(&place, &format!("{bucket}/dir/with space.tgz"), secret));

    let ended = place.refused(&mut s3(&place, &bucket, "hunter2hunter2"), &["access is denied", "AWS_ACCESS_KEY_ID"]);
    assert!(!ended.said.contains("hunter2") && !ended.said.contains(secret), "{}", ended.said);
    place.refused(
        &mut s3(&place, &format!("{bucket}/gone"), secret),
        &["there is no such object", "names of the bucket"],
    );
    place.refused(&mut s3(&place, "no-such-bucket-here/x", secret), &["there is no such object"]);
    let mut anonymous = s3(&place, &bucket, "");
    anonymous.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    place.refused(&mut anonymous, &["access is denied", "no credentials were found"]);
}

#[test]
fn a_profile_of_amazons_is_credentials_too() {
    let place = Place::new();
    let file = place.file("context.tar.gz", &archive());
    let bucket = bucket("profile");
    stdout(peers().fill_bucket("s3", peers().s3(), &bucket, "context.tar.gz").arg(&file));
    let (key, secret) = (peers().s3_key(), peers().s3_secret());
    let profile = format!("[ci]\naws_access_key_id={key}\naws_secret_access_key={secret}\nregion=us-east-1\n");
    let credentials = place.file("credentials", profile.as_bytes());
    let mut command = s3(&place, &bucket, "");
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_PROFILE", "ci");
    expected(&place, command.env("AWS_SHARED_CREDENTIALS_FILE", credentials));
}

#[test]
fn a_bucket_elsewhere_is_told_so() {
    let web = Web::serve(|_asked, _before| {
        Answer::status_with(
            400,
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting 'eu-west-1'</Message></Error>",
        )
    });
    let place = Place::new();
    let mut command = s3(&place, "bucket/x", "secret");
    place.refused(command.env("S3_ENDPOINT", web.url("")), &["different region", "AWS_REGION", "eu-west-1"]);
}

#[test]
fn an_object_goes_on_where_it_broke() {
    let content: Vec<u8> = (0..300_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    let whole = Archive::context().file("a", b"A").file("big", &content).gzip();
    let web = Web::serve(move |asked, before| {
        let answer = |body: &[u8]| Answer::ok(body).header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        match asked.headers.get("range") {
            None if before == 0 => answer(&whole).header("ETag", "\"one\"").cut_at(100_000),
            None => answer(&whole).header("ETag", "\"one\""),
            Some(range) => {
                let range = range.trim_start_matches("bytes=");
                let from: usize = range.split('-').next().unwrap().parse().unwrap();
                Answer::partial(whole[from..].to_vec())
                    .header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
                    .header("ETag", "\"one\"")
                    .header("Content-Range", &format!("bytes {from}-{}/{}", whole.len() - 1, whole.len()))
            }
        }
    });
    let place = Place::new();
    crate::support::program::run(s3(&place, "bucket/x", "secret").env("S3_ENDPOINT", web.url(""))).success();
    assert!(web.asked().iter().any(|asked| asked.headers.contains_key("range")), "{:?}", web.asked());
}

#[test]
fn googles_buckets() {
    let place = Place::new();
    let file = place.file("context.tar.gz", &archive());
    let bucket = bucket("gs");
    stdout(peers().fill_bucket("gs", peers().gs(), &bucket, "context.tar.gz").arg(&file));
    let gs = |place: &Place, context: &str| {
        let mut command = place.command(context);
        command.env("STORAGE_EMULATOR_HOST", peers().gs());
        command
    };
    expected(&place, &mut gs(&place, &format!("gs://{bucket}")));
    let place = Place::new();
    expected(&place, gs(&place, "").arg(format!("--bucket={bucket}")));
    place.refused(&mut gs(&place, &format!("gs://{bucket}/gone")), &["there is no such object"]);
    place.refused(gs(&place, "/").arg("-b=x"), &["--bucket", "gs://"]);

    let key = place.file("key.json", b"{\"type\":\"service_account\"");
    let mut command = place.command(&format!("gs://{bucket}"));
    place.refused(
        command.env("GOOGLE_APPLICATION_CREDENTIALS", key),
        &["load the credentials for gs://", "GOOGLE_APPLICATION_CREDENTIALS"],
    );
}

#[test]
fn azures_blobs() {
    let place = Place::new();
    let file = place.file("context.tar.gz", &archive());
    let container = bucket("azure");
    let signature = stdout(peers().fill_bucket("azure", peers().azure(), &container, "dir/c.tar.gz").arg(&file));
    let blob = |place: &Place, rest: &str, key: Option<&str>| {
        let mut command = place.command(&format!("https://devstoreaccount1.blob.core.windows.net/{container}/{rest}"));
        command.env("AZURE_STORAGE_ENDPOINT", format!("{}/devstoreaccount1", peers().azure()));
        command.envs(key.map(|key| ("AZURE_STORAGE_ACCESS_KEY", key)));
        command
    };
    expected(&place, &mut blob(&place, "dir/c.tar.gz", Some(AZURE_KEY)));
    let signed = format!("dir/c.tar.gz?{signature}");
    let place = Place::new();
    expected(&place, &mut blob(&place, &signed, None));
    let place = Place::new();
    // What the URL brings goes before a key for all accounts.
    expected(&place, &mut blob(&place, &signed, Some(WRONG_AZURE_KEY)));

    let denied = &["access is denied", "AZURE_STORAGE_ACCESS_KEY"];
    let ended = place.refused(&mut blob(&place, "dir/c.tar.gz", Some(WRONG_AZURE_KEY)), denied);
    assert!(!ended.said.contains(WRONG_AZURE_KEY), "{}", ended.said);
    let forged = format!("{}hunter2", &signed[..signed.len() - 12]);
    let ended = place.refused(&mut blob(&place, &forged, None), denied);
    assert!(!ended.said.contains("hunter2"), "{}", ended.said);
    place.refused(&mut blob(&place, "gone", Some(AZURE_KEY)), &["there is no such object"]);
    let bad = place.refused(&mut blob(&place, "gone", Some("not base64")), &["load the credentials"]);
    assert!(!bad.said.contains("not base64"), "{}", bad.said);
}
