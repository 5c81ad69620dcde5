//! What an image's manifest looks like: whose media types, which annotations.
//!
//! [`ImageForm::manifest`] makes the manifest of a config and layers, in OCI's words or in Docker's. The
//! words of a layer that came from elsewhere are translated too; its bytes stay.

use std::collections::BTreeMap;

use super::{Descriptor, Encoding, Manifest, media};

/// What an image's manifest looks like.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImageForm {
    /// Docker's media types instead of OCI's.
    pub docker_types: bool,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the manifest's descriptor in an index.
    pub descriptor_annotations: BTreeMap<String, String>,
}

/// A manifest with what it is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Formed {
    /// Which bytes are the config.
    pub config: Descriptor,
    /// Which bytes are the manifest.
    pub manifest: Descriptor,
    /// The manifest.
    pub document: Vec<u8>,
}

impl ImageForm {
    /// The manifest of an image with this config and these layers, bottom first.
    pub fn manifest(&self, config: &[u8], layers: Vec<Descriptor>) -> Formed {
        let (config_type, manifest_type) = match self.docker_types {
            true => (media::DOCKER_CONFIG, media::DOCKER_MANIFEST),
            false => (media::CONFIG, media::MANIFEST),
        };
        let config = Descriptor::of(config_type, config);
        let layers = layers.into_iter().map(|layer| self.layer(layer)).collect();
        let mut manifest = Manifest::new(config.clone(), layers);
        manifest.media_type = manifest_type.to_owned();
        manifest.annotations.clone_from(&self.annotations);
        let document = manifest.to_json();
        let mut manifest = Descriptor::of(manifest_type, &document);
        manifest.annotations.clone_from(&self.descriptor_annotations);
        Formed { config, manifest, document }
    }

    /// The layer's descriptor in the form's words.
    fn layer(&self, layer: Descriptor) -> Descriptor {
        let Some(encoding) = Encoding::of_media_type(&layer.media_type) else { return layer };
        let media_type = match (self.docker_types, encoding) {
            (false, encoding) => encoding.media_type(),
            (true, Encoding::Plain) => media::DOCKER_LAYER_PLAIN,
            (true, Encoding::Gzip) => media::DOCKER_LAYER,
            (true, Encoding::Zstd) => media::DOCKER_LAYER_ZSTD,
        };
        Descriptor { media_type: media_type.to_owned(), ..layer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;

    fn layers() -> Vec<Descriptor> {
        let types = [media::LAYER_GZIP, media::DOCKER_LAYER, media::LAYER, media::LAYER_ZSTD, "x/y"];
        types.iter().map(|media_type| Descriptor::new(media_type, Digest::of(media_type), 1)).collect()
    }

    fn types(form: &ImageForm) -> String {
        let formed = form.manifest(b"{}", layers());
        assert_eq!(formed.manifest.digest, Digest::of(&formed.document));
        let manifest: Manifest = serde_json::from_slice(&formed.document).unwrap();
        assert_eq!(
            (manifest.media_type.as_str(), &manifest.config),
            (formed.manifest.media_type.as_str(), &formed.config)
        );
        let layers = manifest.layers.iter().map(|layer| layer.media_type.as_str());
        [manifest.media_type.as_str(), manifest.config.media_type.as_str()]
            .into_iter()
            .chain(layers)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_words_are_ocis_or_dockers() {
        insta::assert_snapshot!(types(&ImageForm::default()), @r"
        application/vnd.oci.image.manifest.v1+json
        application/vnd.oci.image.config.v1+json
        application/vnd.oci.image.layer.v1.tar+gzip
        application/vnd.oci.image.layer.v1.tar+gzip
        application/vnd.oci.image.layer.v1.tar
        application/vnd.oci.image.layer.v1.tar+zstd
        x/y
        ");
        insta::assert_snapshot!(types(&ImageForm { docker_types: true, ..ImageForm::default() }), @r"
        application/vnd.docker.distribution.manifest.v2+json
        application/vnd.docker.container.image.v1+json
        application/vnd.docker.image.rootfs.diff.tar.gzip
        application/vnd.docker.image.rootfs.diff.tar.gzip
        application/vnd.docker.image.rootfs.diff.tar
        application/vnd.docker.image.rootfs.diff.tar.zstd
        x/y
        ");
    }

    #[test]
    fn annotations_stand_where_they_belong() {
        let pair = |name: &str| BTreeMap::from([(name.to_owned(), "v".to_owned())]);
        let form =
            ImageForm { annotations: pair("a"), descriptor_annotations: pair("d"), ..ImageForm::default() };
        let formed = form.manifest(b"{}", Vec::new());
        let text = String::from_utf8(formed.document).unwrap();
        assert!(text.ends_with(r#""annotations":{"a":"v"}}"#), "{text}");
        assert_eq!(formed.manifest.annotations, pair("d"));
    }
}
