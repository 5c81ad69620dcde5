//! TLS to an engine: whom we trust and who we are, from the files that docker keeps for that.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::super::TlsFiles;

/// The configuration of a connection; the error is a sentence with the file in it.
pub(super) fn config(files: &TlsFiles) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier(files, provider)?);
    match &files.client {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| {
                format!("{} and {} do not belong together: {error}", certificate.display(), key.display())
            })
        }
    }
}

fn verifier(files: &TlsFiles, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if files.skip_verify {
        return Ok(Arc::new(Anybody(provider)));
    }
    let extra = files.ca.as_deref().map(certificates).transpose()?.unwrap_or_default();
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider);
    Ok(Arc::new(verifier.map_err(|error| format!("no certificate authority can be used: {error}"))?))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(file, &error))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(file, &error))?;
    if found.is_empty() {
        return Err(format!("there is no certificate in {}", file.display()));
    }
    Ok(found)
}

fn unreadable(file: &Path, error: &rustls::pki_types::pem::Error) -> String {
    let reason = match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        // The library's other errors quote the file: a key never reaches an error.
        _ => "it is no PEM file of this kind".to_owned(),
    };
    format!("cannot read {}: {reason}", file.display())
}

/// Lets every certificate count (`SkipTLSVerify`): the user said so. Signatures must fit it all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_missing_or_no_certificates_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("ca.pem");
        let files = TlsFiles { ca: Some(missing.clone()), ..TlsFiles::default() };
        let error = config(&files).unwrap_err();
        assert!(error.contains("ca.pem") && error.contains("No such file"), "{error}");
        std::fs::write(&missing, "secret words\n").unwrap();
        let error = config(&files).unwrap_err();
        assert!(error.contains("ca.pem") && !error.contains("secret words"), "{error}");
        let files = TlsFiles { skip_verify: true, ..TlsFiles::default() };
        assert!(config(&files).is_ok());
    }
}
