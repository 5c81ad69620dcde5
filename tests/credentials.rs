//! Every way to log in at a registry, and to trust one: for pulls and for pushes, and without a trace of any
//! secret.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::faults::{Yard, registry};
use crate::proxy::{Fault, Guard, Kind, Proxy};
use crate::scene::needs;

/// What `auths` has of a name and a password.
pub(crate) fn auth(name: &str, password: &str) -> String {
    format!(r#""auth":"{}""#, BASE64_STANDARD.encode(format!("{name}:{password}")))
}

/// Writes a `config.json` with this entry for the yard's registry.
pub(crate) fn config(yard: &mut Yard, entry: &str) {
    let text = format!(r#"{{"auths":{{"{}":{{{entry}}}}}}}"#, yard.proxy.address());
    write(yard, "docker/config.json", &text, 0o600);
}

fn write(yard: &Yard, path: &str, text: &str, mode: u32) {
    let path = yard.scene.project().join("..").join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A `config.json` that names a helper, and the helper, which knows this.
fn helper(yard: &mut Yard, key: &str, name: &str, secret: &str) {
    let address = yard.proxy.address().to_owned();
    let named = match key {
        "credsStore" => r#""credsStore":"shelf""#.to_owned(),
        _ => format!(r#""credHelpers":{{"{address}":"shelf"}}"#),
    };
    write(yard, "docker/config.json", &format!("{{{named}}}"), 0o600);
    let answer = format!(r#"{{"ServerURL":"{address}","Username":"{name}","Secret":"{secret}"}}"#);
    let script = format!(
        "#!/bin/sh\nread -r server\n[ \"$1 $server\" = 'get {address}' ] && echo '{answer}' && exit\n\
         echo 'credentials not found in native keychain'\nexit 1\n"
    );
    write(yard, "bin/docker-credential-shelf", &script, 0o755);
    let bin = yard.scene.project().join("../bin");
    yard.variables.push(("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())));
}

type Prepare = fn(&mut Yard);

#[test]
fn every_login_lets_in_and_is_not_told() {
    let ways: [(&str, Guard, Prepare); 9] = [
        ("auths, password", Guard::basic("me", "pass-word"), |yard| config(yard, &auth("me", "pass-word"))),
        ("auths, token", Guard::tokens("me", "pass-word"), |yard| config(yard, &auth("me", "pass-word"))),
        ("identity", Guard::identity("identity-token"), |yard| {
            config(yard, r#""auth":"MDA6","identitytoken":"identity-token""#);
        }),
        ("registrytoken", Guard::bearer("registry-token"), |yard| {
            config(yard, r#""registrytoken":"registry-token""#);
        }),
        ("helper", Guard::tokens("me", "pass-word"), |yard| helper(yard, "credHelpers", "me", "pass-word")),
        ("helper, password", Guard::basic("me", "pass-word"), |yard| {
            helper(yard, "credsStore", "me", "pass-word");
        }),
        ("store", Guard::tokens("me", "pass-word"), |yard| helper(yard, "credsStore", "me", "pass-word")),
        ("helper, identity", Guard::identity("identity-token"), |yard| {
            helper(yard, "credHelpers", "<token>", "identity-token");
        }),
        ("anyone pulls", Guard::tokens("me", "pass-word").and_anyone_pulls(), |yard| {
            config(yard, &auth("me", "pass-word"));
        }),
    ];
    for (way, guard, prepare) in ways {
        let Some(mut yard) = Yard::new() else { return };
        prepare(&mut yard);
        yard.proxy.ask_for(guard);
        for progress in ["plain", "json"] {
            let pulled = yard.pull(&["--progress", progress, "--trace", "trace.json"]);
            assert_eq!(pulled.code, Some(0), "{way}: {}", pulled.err);
            yard.tells_nothing(&pulled);
            let pushed = yard.push(&["--progress", progress, "--trace", "trace.json"]);
            assert_eq!(pushed.code, Some(0), "{way}: {}", pushed.err);
            yard.tells_nothing(&pushed);
        }
        yard.pushed();
    }
}

#[test]
fn who_is_not_let_in_is_told_what_to_do() {
    let cases: [(&str, Guard, Prepare, &[&str]); 5] = [
        ("nobody", Guard::basic("me", "pass-word"), |_| {}, &["denies access to", "`docker login`"]),
        ("nobody, token", Guard::tokens("me", "pass-word"), |_| {}, &["denies access to"]),
        (
            "wrong",
            Guard::tokens("me", "pass-word"),
            |yard| config(yard, &auth("me", "wrong-secret")),
            &["cannot log in at the registry", "refuses what config.json says", "docker login 127.0.0.1:"],
        ),
        (
            "stale",
            Guard::identity("identity-token"),
            |yard| config(yard, r#""identitytoken":"wrong-secret""#),
            &["refuses what config.json says"],
        ),
        (
            "helper",
            Guard::tokens("me", "pass-word"),
            |yard| helper(yard, "credHelpers", "a", "b\"'; exit 1; '"),
            &["cannot log in at the registry"],
        ),
    ];
    for (way, guard, prepare, said) in cases {
        let Some(mut yard) = Yard::new() else { return };
        prepare(&mut yard);
        yard.proxy.ask_for(guard);
        for ran in [yard.pull(&[]), yard.push(&[])] {
            assert_eq!(ran.code, Some(1), "{way}: {}", ran.err);
            let errors: Vec<_> = ran.err.lines().filter(|line| line.starts_with("error")).collect();
            assert!(errors.len() <= 1 && !ran.err.contains("wrong-secret"), "{way}: {}", ran.err);
            yard.tells_nothing(&ran);
            ran.says(said);
        }
        assert_eq!(yard.get("manifests/1").0, 404);
        yard.left_nothing();
    }
}

#[test]
fn who_may_only_read_is_told_when_he_writes() {
    let Some(mut yard) = Yard::new() else { return };
    config(&mut yard, &auth("me", "pass-word"));
    yard.proxy.ask_for(Guard::tokens("me", "pass-word").and_nobody_pushes());
    yard.pull(&[]).ok();
    let refused = yard.push(&[]).fails(1, &["denies access to", "`docker login`"]);
    yard.tells_nothing(&refused);
}

/// Tokens that end before they are said to, and a token server that fails for a while.
#[test]
fn tokens_end_and_their_server_rests() {
    let Some(mut yard) = Yard::new() else { return };
    config(&mut yard, &auth("me", "pass-word"));
    yard.proxy.ask_for(Guard::tokens("me", "pass-word").lasting(Duration::from_millis(300), 300));
    yard.proxy.on("GET", Kind::Blob).always().fails(Fault::Drip(300_000, Duration::from_millis(200)));
    yard.proxy.on("", Kind::Token).times(2).fails(Fault::Status(503));
    yard.proxy.on("", Kind::Token).skip(1).fails(Fault::RetryAfter(429, "1"));
    yard.pull(&[]).ok();
    yard.push(&[]).ok();
    yard.pulled();
    yard.pushed();
    yard.proxy.on("", Kind::Token).always().fails(Fault::Status(500));
    let other = Yard::with(yard.proxy, yard.registry);
    other.pull(&[]).fails(1, &["HTTP status 500, also when asked again"]);
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().map(|found| found.unwrap()).collect()
}

/// A yard whose registry speaks TLS; `knows_us`: only with somebody whom its authority knows.
fn secure(folder: &Path, knows_us: bool) -> Option<Yard> {
    let registry = registry()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = if knows_us {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&folder.join("ca.pem")));
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(folder.join("server-key.pem")).unwrap();
    let config = builder.with_single_cert(certificates(&folder.join("server.pem")), key).unwrap();
    Some(Yard::with(Proxy::secure(&registry, config), registry))
}

/// Puts files of the tests' certificates where the program looks for those of the yard's registry.
fn trust(yard: &Yard, folder: &Path, files: &[(&str, &str)]) {
    for (from, to) in files {
        let text = std::fs::read_to_string(folder.join(from)).unwrap();
        write(yard, &format!("config/docker/certs.d/{}/{to}", yard.proxy.address()), &text, 0o600);
    }
}

#[test]
fn registries_are_trusted_by_their_own_certificates() {
    let Some(folder) = needs("SHIPWAY_TEST_TLS", "certificates in SHIPWAY_TEST_TLS") else { return };
    let folder = Path::new(&folder);
    let all = [("ca.pem", "ca.crt"), ("cert.pem", "client.cert"), ("key.pem", "client.key")];
    for (knows_us, files) in [(false, &all[..1]), (true, &all)] {
        let Some(mut yard) = secure(folder, knows_us) else { return };
        trust(&yard, folder, files);
        config(&mut yard, &auth("me", "pass-word"));
        yard.proxy.ask_for(Guard::tokens("me", "pass-word"));
        yard.pull(&[]).ok();
        let pushed = yard.push(&[]).ok();
        yard.pushed();
        yard.tells_nothing(&pushed);
    }
    let Some(yard) = secure(folder, false) else { return };
    trust(&yard, folder, &[("other/ca.pem", "ca.crt")]);
    yard.pull(&[]).fails(1, &["cannot reach the registry", "invalid peer certificate", "/ca.crt"]);
    let Some(yard) = secure(folder, true) else { return };
    trust(&yard, folder, &all[..1]);
    yard.pull(&[]).fails(1, &["it wants a certificate of ours", "client.cert with client.key"]);
    trust(&yard, folder, &[("cert.pem", "client.cert")]);
    yard.pull(&[]).fails(1, &["cannot use the certificates in", "client.cert", "ends in .key"]);
    yard.left_nothing();
}

#[test]
fn insecure_registries_may_be_whoever_they_are() {
    let Some(folder) = needs("SHIPWAY_TEST_TLS", "certificates in SHIPWAY_TEST_TLS") else { return };
    let folder = Path::new(&folder);
    let Some(mut yard) = secure(folder, false) else { return };
    trust(&yard, folder, &[("other/ca.pem", "ca.crt")]);
    let address = yard.proxy.address().to_owned();
    yard.pull(&["--insecure-registry", &address]).ok();
    yard.push(&["--insecure-registry", &address]).ok();
    yard.pushed();
    yard.variables.push(("SHIPWAY_INSECURE_REGISTRIES", format!("other, {address}")));
    std::fs::remove_dir_all(yard.scene.store()).unwrap();
    yard.pull(&[]).ok();
    yard.pull(&["--insecure-registry", "https://x/"]).fails(1, &["HOST or HOST:PORT"]);
    // One that speaks plain HTTP.
    let Some(yard) = Yard::new() else { return };
    let address = yard.proxy.address().to_owned();
    trust(&yard, folder, &[("ca.pem", "ca.crt")]);
    yard.pull(&[]).fails(1, &["cannot reach the registry", "--insecure-registry"]);
    yard.pull(&["--insecure-registry", &address]).ok();
    yard.pulled();
}
