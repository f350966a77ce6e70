//! Images made for the tests.

use std::io::Cursor;

use anyhow::Result;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// Cells along each side of a pattern.
const CELLS: u32 = 8;

/// Cells of random colours, in an image of this size; other ones for each `seed`.
pub fn pattern(seed: u8, width: u32, height: u32) -> DynamicImage {
    let mut random = fastrand::Rng::with_seed(seed.into());
    let colour = || Rgb([random.u8(..), random.u8(..), random.u8(..)]);
    let colours: Vec<_> = std::iter::repeat_with(colour)
        .take((CELLS * CELLS) as usize)
        .collect();
    let image = RgbImage::from_fn(width, height, |x, y| {
        let (column, row) = (x * CELLS / width, y * CELLS / height);
        colours[(row * CELLS + column) as usize]
    });
    DynamicImage::ImageRgb8(image)
}

/// An image of one colour and of this size.
pub fn plain(colour: [u8; 3], width: u32, height: u32) -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb(colour)))
}

/// The image in this format.
///
/// # Errors
///
/// When the format cannot hold it.
pub fn encoded(image: &DynamicImage, format: ImageFormat) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format)?;
    Ok(bytes.into_inner())
}
