//! Compression of layers: finding out and undoing what others used, gzip in parallel for our own.
//!
//! [`decompressed`] looks at the first bytes, never at a media type. [`GzipWriter`] cuts its input into
//! blocks of a fixed size that are compressed on all cores and joined into one gzip member, so that the
//! bytes follow from the input and the level alone.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::{Compress, Compression, Crc, FlushCompress};
use rayon::prelude::*;

use super::{OciError, media};

/// What is compressed at once. Larger blocks compress better, smaller ones use more cores.
const BLOCK: usize = 1 << 20;

/// How a layer's bytes are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Not at all.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Encoding {
    /// The media type of a layer that is compressed so.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Plain => media::LAYER,
            Self::Gzip => media::LAYER_GZIP,
            Self::Zstd => media::LAYER_ZSTD,
        }
    }

    /// The compression that a layer's media type promises, OCI's or Docker's; `None` for what is no layer
    /// of these.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            media::LAYER | media::DOCKER_LAYER_PLAIN => Some(Self::Plain),
            media::LAYER_GZIP | media::DOCKER_LAYER => Some(Self::Gzip),
            media::LAYER_ZSTD | media::DOCKER_LAYER_ZSTD => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What the first bytes of a stream tell. Compressions that are not understood are refused by name.
    fn of(start: &[u8]) -> Result<Self, OciError> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(OciError::Compression("xz")),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Err(OciError::Compression("bzip2")),
            [b'L', b'Z', b'I', b'P', ..] => Err(OciError::Compression("lzip")),
            _ => Ok(Self::Plain),
        }
    }
}

/// The plain bytes of a stream, and how they were compressed.
pub fn decompressed<'r>(
    reader: impl Read + Send + 'r,
) -> Result<(Encoding, Box<dyn Read + Send + 'r>), OciError> {
    let mut reader = BufReader::with_capacity(1 << 17, reader);
    let failed = |error: io::Error| OciError::Tar { what: "the layer", source: error.into() };
    let start = reader.fill_buf().map_err(failed)?;
    let encoding = Encoding::of(start)?;
    Ok((
        encoding,
        match encoding {
            Encoding::Plain => Box::new(reader),
            Encoding::Gzip => Box::new(MultiGzDecoder::new(reader)),
            Encoding::Zstd => Box::new(zstd::Decoder::with_buffer(reader).map_err(failed)?),
        },
    ))
}

/// Writes gzip to `inner`. Nothing is complete before [`GzipWriter::finish`].
pub struct GzipWriter<W> {
    inner: W,
    level: Compression,
    /// What is not compressed yet.
    waiting: Vec<u8>,
    crc: Crc,
    size: u32,
    /// How much waits before all cores are set to work.
    batch: usize,
}

impl<W: Write> GzipWriter<W> {
    /// Starts a gzip stream at a level of 0 to 9.
    pub fn new(mut inner: W, level: u32) -> io::Result<Self> {
        // No name, no time, unknown system: the header says nothing about this machine.
        inner.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])?;
        let batch = BLOCK * rayon::current_num_threads() * 2;
        let level = Compression::new(level.min(9));
        Ok(Self { inner, level, waiting: Vec::with_capacity(batch), crc: Crc::new(), size: 0, batch })
    }

    /// Ends the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.compress()?;
        // An empty last block, then checksum and length.
        self.inner.write_all(&[0x03, 0x00])?;
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.size.to_le_bytes())?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn compress(&mut self) -> io::Result<()> {
        let level = self.level;
        let blocks: Vec<_> =
            self.waiting.par_chunks(BLOCK).map(|block| compress_block(block, level)).collect();
        for block in blocks {
            let (bytes, crc) = block?;
            self.inner.write_all(&bytes)?;
            self.crc.combine(&crc);
            self.size = self.size.wrapping_add(crc.amount());
        }
        self.waiting.clear();
        Ok(())
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.batch - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..count]);
        if self.waiting.len() == self.batch {
            self.compress()?;
        }
        Ok(count)
    }

    /// Does nothing: a flush in the middle would make the bytes depend on it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One block as deflate that ends at a byte's boundary, and its checksum.
fn compress_block(block: &[u8], level: Compression) -> io::Result<(Vec<u8>, Crc)> {
    let mut crc = Crc::new();
    crc.update(block);
    let mut deflate = Compress::new(level, false);
    let mut bytes = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let taken = usize::try_from(deflate.total_in()).unwrap_or(block.len());
        let before = bytes.len();
        deflate.compress_vec(&block[taken..], &mut bytes, FlushCompress::Sync).map_err(io::Error::other)?;
        let done = deflate.total_in() == block.len() as u64;
        // All is out once the flush left room, or had nothing more to add.
        if done && (bytes.len() < bytes.capacity() || bytes.len() == before) {
            return Ok((bytes, crc));
        }
        bytes.reserve(block.len() / 2 + 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8], pieces: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new(), 1).unwrap();
        bytes.chunks(pieces).for_each(|piece| writer.write_all(piece).unwrap());
        writer.finish().unwrap()
    }

    /// Bytes that compress a little.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & 0x3f
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn gzip_is_read_again_whatever_the_pieces() {
        for length in [0, 1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let bytes = sample(length);
            let compressed = gzip(&bytes, 12_345);
            assert!(compressed == gzip(&bytes, 1 << 22), "{length}");
            let (encoding, mut reader) = decompressed(compressed.as_slice()).unwrap();
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(encoding == Encoding::Gzip && read == bytes, "{length}");
        }
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let bytes = sample(5 * BLOCK);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert!(pool.install(|| gzip(&bytes, 4096)) == gzip(&bytes, 4096));
    }

    #[test]
    fn zstd_and_plain_bytes_are_read_and_others_refused_by_name() {
        let compressed = zstd::encode_all(&b"hello"[..], 1).unwrap();
        for (bytes, expected) in [(compressed, Encoding::Zstd), (b"hello".to_vec(), Encoding::Plain)] {
            let (encoding, mut reader) = decompressed(bytes.as_slice()).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!((encoding, text.as_str()), (expected, "hello"));
        }
        let error = decompressed(&b"\xfd7zXZ\0rest"[..]).err().unwrap().to_string();
        assert_eq!(error, "not supported yet: xz compression");
    }
}
