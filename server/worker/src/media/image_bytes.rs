//! An encoded image, of which nothing but the header has been read until it is decoded.
//!
//! Sizes are checked as the header gives them, before anything is allocated by them; one image is decoded
//! at a time.

use std::{
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, error::ImageError,
    metadata::Orientation,
};

use crate::failure::{one_paragraph, panic_message};

/// Longest side in pixels.
const MAX_SIDE: u32 = 8192;

/// Most pixels.
const MAX_PIXELS: u64 = 1 << 24;

/// Bytes that the most pixels take while they are decoded: eight for each as they come, with what a decoder
/// keeps beside them, and three as they are kept.
pub(crate) const DECODING_BYTES: u64 = MAX_PIXELS * (8 + 3);

/// Lets one image be decoded at a time.
static DECODING: Mutex<()> = Mutex::new(());

/// Why bytes are no image that can be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ImageFault {
    /// There are none.
    #[error("is empty")]
    Empty,
    /// They are something else.
    #[error("is not an image; give a PNG, JPEG, WebP, GIF or BMP")]
    NoImage,
    /// They are an image of another format.
    #[error("is an image in a format that is not taken ({0}); give a PNG, JPEG, WebP, GIF or BMP")]
    Format(String),
    /// They are broken.
    #[error("cannot be decoded: {0}")]
    Broken(String),
    /// Decoding it would take too much memory.
    #[error(
        "is too large: decoding it would take more memory than an image of {MAX_PIXELS} pixels may"
    )]
    Memory,
    /// It has no pixels.
    #[error("is {0} x {1} pixels, which is no image")]
    NoPixels(u32, u32),
    /// It has too many pixels.
    #[error("is {0} x {1} pixels; at most {MAX_SIDE} on a side and {MAX_PIXELS} in all are taken")]
    TooLarge(u32, u32),
}

/// An encoded image whose header was read.
#[derive(Debug)]
pub(crate) struct EncodedImage<'a> {
    bytes: &'a [u8],
    format: ImageFormat,
    /// Pixels as it is shown.
    pub(crate) width: u32,
    /// Pixels as it is shown.
    pub(crate) height: u32,
}

impl<'a> EncodedImage<'a> {
    /// Reads the header.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, ImageFault> {
        if bytes.is_empty() {
            return Err(ImageFault::Empty);
        }
        let format = image::guess_format(bytes).map_err(|_| ImageFault::NoImage)?;
        if !is_taken(format) {
            return Err(ImageFault::Format(format!("{format:?}").to_uppercase()));
        }
        let (width, height) = guarded(|| {
            let mut decoder = reader(bytes, format).into_decoder()?;
            let (width, height) = decoder.dimensions();
            let turned = is_turned(orientation(&mut decoder));
            Ok(if turned {
                (height, width)
            } else {
                (width, height)
            })
        })?;
        check_size(width, height)?;
        Ok(Self {
            bytes,
            format,
            width,
            height,
        })
    }

    /// Decodes the image, the first one of several, as it is shown and without transparency. Blocks.
    pub(crate) fn decode(&self) -> Result<DynamicImage, ImageFault> {
        let _turn = DECODING.lock().unwrap_or_else(PoisonError::into_inner);
        guarded(|| {
            let mut decoder = reader(self.bytes, self.format).into_decoder()?;
            let orientation = orientation(&mut decoder);
            let image = DynamicImage::from_decoder(decoder)?;
            let mut image = DynamicImage::ImageRgb8(image.into_rgb8());
            image.apply_orientation(orientation);
            Ok(image)
        })
    }
}

fn is_taken(format: ImageFormat) -> bool {
    matches!(
        format,
        ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp
    )
}

fn reader(bytes: &[u8], format: ImageFormat) -> ImageReader<Cursor<&[u8]>> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODING_BYTES);
    reader.limits(limits);
    reader
}

fn check_size(width: u32, height: u32) -> Result<(), ImageFault> {
    if width == 0 || height == 0 {
        return Err(ImageFault::NoPixels(width, height));
    }
    let pixels = u64::from(width) * u64::from(height);
    if width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(ImageFault::TooLarge(width, height));
    }
    Ok(())
}

/// How the camera was held. What cannot be read counts as upright.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// Runs a decoder, whose panics are the image's fault.
fn guarded<T>(work: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageFault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(ImageError::Limits(_))) => Err(ImageFault::Memory),
        Ok(Err(error)) => Err(ImageFault::Broken(one_paragraph(&error.to_string()))),
        Err(panic) => Err(ImageFault::Broken(one_paragraph(&panic_message(&*panic)))),
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Rgba};

    use super::*;

    fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let image = ImageBuffer::from_fn(width, height, |x, y| {
            Rgba([x as u8, y as u8, (x * y) as u8, 255])
        });
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgba8(image)
            .into_rgb8()
            .write_to(&mut bytes, format)
            .expect("an image");
        bytes.into_inner()
    }

    fn decoded(bytes: &[u8]) -> Result<DynamicImage, ImageFault> {
        EncodedImage::open(bytes)?.decode()
    }

    #[bounded::test]
    fn every_format_that_is_promised_is_decoded() {
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
        ] {
            let image = decoded(&encoded(6, 4, format)).expect("an image");
            assert_eq!((image.width(), image.height()), (6, 4), "{format:?}");
            assert!(matches!(image, DynamicImage::ImageRgb8(_)));
        }
    }

    #[bounded::test]
    fn what_is_no_image_or_another_format_is_refused() {
        assert_eq!(decoded(b""), Err(ImageFault::Empty));
        assert_eq!(decoded(b"hello, world"), Err(ImageFault::NoImage));
        assert_eq!(decoded(b"<svg xmlns=\"\"/>"), Err(ImageFault::NoImage));
        let tiff = encoded(2, 2, ImageFormat::Tiff);
        assert_eq!(decoded(&tiff), Err(ImageFault::Format("TIFF".into())));
    }

    #[bounded::test]
    fn every_beginning_and_every_changed_byte_ends_with_an_answer() {
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
        ] {
            let whole = encoded(9, 7, format);
            for end in 0..whole.len() {
                let _ = decoded(&whole[..end]);
            }
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 0xFF;
                let _ = decoded(&changed);
            }
        }
        let png = encoded(9, 7, ImageFormat::Png);
        assert!(matches!(decoded(&png[..40]), Err(ImageFault::Broken(_))));
    }

    /// The JPEG with a note of how the camera was held.
    fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let exif = [
            b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(),
            &[orientation, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let length = u8::try_from(exif.len() + 2).expect("a short segment");
        [&jpeg[..2], &[0xFF, 0xE1, 0, length], &exif, &jpeg[2..]].concat()
    }

    #[bounded::test]
    fn an_image_is_turned_as_the_camera_says() {
        let jpeg = encoded(40, 24, ImageFormat::Jpeg);
        let upright = decoded(&jpeg).expect("an image");
        let turned = turned(&jpeg, 6);
        let picture = EncodedImage::open(&turned).expect("an image");
        assert_eq!((picture.width, picture.height), (24, 40));
        assert_eq!(picture.decode(), Ok(upright.rotate90()));
    }

    #[bounded::test]
    fn sizes_are_refused_by_the_header_alone() {
        assert_eq!(check_size(0, 5), Err(ImageFault::NoPixels(0, 5)));
        assert_eq!(check_size(20_000, 1), Err(ImageFault::TooLarge(20_000, 1)));
        assert_eq!(
            check_size(8192, 2049),
            Err(ImageFault::TooLarge(8192, 2049))
        );
        assert_eq!(check_size(8192, 2048), Ok(()));
        let wide = encoded(20_000, 1, ImageFormat::Png);
        assert_eq!(decoded(&wide), Err(ImageFault::TooLarge(20_000, 1)));
    }
}
