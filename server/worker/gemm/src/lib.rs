//! Products of matrices by the kernels of gemm 0.19.0, whose place this takes: that computes the product of a matrix with
//! a vector on one thread, whatever parallelism is asked for, and such are all products for a single token. Here its rows
//! are divided among the threads; each is computed as it would be otherwise, so the numbers are the same.
//!
//! It has that crate's one function and features, as far as candle uses them: no complex numbers, no strides below zero.

use std::any::TypeId;

pub use gemm_common::Parallelism;
pub use gemm_f16::f16;
use rayon::prelude::*;

/// Rows of a part, at least: with fewer, products of up to 256 numbers come from other kernels, which add up in another order.
const ROWS: usize = 288;

/// Bytes of a matrix that are worth dividing: some 20 µs of work.
const BYTES: usize = 256 << 10;

/// Parts for each thread, so that one that is late does not keep all waiting.
const PARTS: usize = 2;

/// `dst := alpha × dst + beta × lhs × rhs`; without `read_dst`, `alpha` counts as zero.
///
/// # Safety
///
/// For all indices below `m`, `n` and `k`, the pointers with these strides (in elements, of columns and rows) have to lead
/// to initialized elements, but for `dst` without `read_dst`; those of `dst` must be distinct and nobody else's.
///
/// # Panics
///
/// When `T` is not `f16`, `f32` or `f64`, or a stride is below zero.
#[allow(unsafe_code, clippy::too_many_arguments, clippy::too_many_lines)]
pub unsafe fn gemm<T: Copy + Send + Sync + 'static>(
    m: usize,
    n: usize,
    k: usize,
    dst: *mut T,
    dst_cs: isize,
    dst_rs: isize,
    read_dst: bool,
    lhs: *const T,
    lhs_cs: isize,
    lhs_rs: isize,
    rhs: *const T,
    rhs_cs: isize,
    rhs_rs: isize,
    alpha: T,
    beta: T,
    conj_dst: bool,
    conj_lhs: bool,
    conj_rhs: bool,
    parallelism: Parallelism,
) {
    debug_assert!(
        !conj_dst && !conj_lhs && !conj_rhs,
        "no type here is complex"
    );
    let product = Product {
        m,
        n,
        k,
        dst,
        dst_cs,
        dst_rs,
        read_dst,
        lhs,
        lhs_cs,
        lhs_rs,
        rhs,
        rhs_cs,
        rhs_rs,
        alpha,
        beta,
    };
    // SAFETY: as the caller has to see to.
    unsafe { product.upright().compute(parallelism) }
}

/// A product, with what it is made of.
#[derive(Clone, Copy)]
struct Product<T> {
    m: usize,
    n: usize,
    k: usize,
    dst: *mut T,
    dst_cs: isize,
    dst_rs: isize,
    read_dst: bool,
    lhs: *const T,
    lhs_cs: isize,
    lhs_rs: isize,
    rhs: *const T,
    rhs_cs: isize,
    rhs_rs: isize,
    alpha: T,
    beta: T,
}

// SAFETY: each part writes elements of its own, and nobody writes what all of them read.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Sync for Product<T> {}

impl<T: Copy + Send + Sync + 'static> Product<T> {
    /// The same with a result whose neighbours are in one column, as the kernels want it.
    ///
    /// # Panics
    ///
    /// When a stride is below zero.
    fn upright(self) -> Self {
        let strides = [
            self.dst_cs,
            self.dst_rs,
            self.lhs_cs,
            self.lhs_rs,
            self.rhs_cs,
            self.rhs_rs,
        ];
        assert!(
            strides.iter().all(|stride| *stride >= 0),
            "gemm computes with strides of zero and above only"
        );
        if self.dst_cs < self.dst_rs {
            self.transposed()
        } else {
            self
        }
    }

    fn transposed(self) -> Self {
        Self {
            m: self.n,
            n: self.m,
            dst_cs: self.dst_rs,
            dst_rs: self.dst_cs,
            lhs: self.rhs,
            lhs_cs: self.rhs_rs,
            lhs_rs: self.rhs_cs,
            rhs: self.lhs,
            rhs_cs: self.lhs_rs,
            rhs_rs: self.lhs_cs,
            ..self
        }
    }

    /// Computes it, on several threads if it is worth that.
    ///
    /// # Safety
    ///
    /// As for [`gemm`].
    #[allow(unsafe_code)]
    unsafe fn compute(self, parallelism: Parallelism) {
        let parts = match parallelism {
            Parallelism::Rayon(threads) if self.n == 1 => self.parts(threads),
            _ => 1,
        };
        if parts < 2 {
            // SAFETY: as the caller has to see to.
            return unsafe { self.run(parallelism) };
        }
        // None has fewer than `ROWS`.
        let first = |part: usize| part * self.m / parts;
        let part = |number: usize| {
            let (first, end) = (first(number), first(number + 1));
            // SAFETY: these rows are within those of the whole, and no other part's.
            unsafe { self.rows(first, end - first).run(Parallelism::None) }
        };
        (0..parts).into_par_iter().with_max_len(1).for_each(part);
    }

    /// Into how many parts its rows are divided.
    fn parts(&self, threads: usize) -> usize {
        let threads = match threads {
            0 => rayon::current_num_threads(),
            some => some,
        };
        let bytes = self.m.saturating_mul(self.k) * size_of::<T>();
        let parts = self.m / ROWS;
        if bytes < BYTES || threads < 2 {
            return 1;
        }
        match parts.min(threads * PARTS) {
            parts if parts > threads => parts - parts % threads,
            parts => parts,
        }
    }

    /// That many of its rows.
    fn rows(&self, first: usize, count: usize) -> Self {
        let offset = isize::try_from(first).unwrap_or(isize::MAX);
        Self {
            m: count,
            dst: self.dst.wrapping_offset(offset * self.dst_rs),
            lhs: self.lhs.wrapping_offset(offset * self.lhs_rs),
            ..*self
        }
    }

    /// Computes it by the kernel for its type.
    ///
    /// # Safety
    ///
    /// As for [`gemm`].
    #[allow(unsafe_code)]
    unsafe fn run(self, parallelism: Parallelism) {
        macro_rules! by {
            ($type: ty, $kernel: expr) => {
                if TypeId::of::<T>() == TypeId::of::<$type>() {
                    // SAFETY: it is this type, and the rest is as the caller has to see to.
                    return unsafe {
                        $kernel(
                            self.m,
                            self.n,
                            self.k,
                            self.dst.cast::<$type>(),
                            self.dst_cs,
                            self.dst_rs,
                            self.read_dst,
                            self.lhs.cast::<$type>(),
                            self.lhs_cs,
                            self.lhs_rs,
                            self.rhs.cast::<$type>(),
                            self.rhs_cs,
                            self.rhs_rs,
                            *(&raw const self.alpha).cast::<$type>(),
                            *(&raw const self.beta).cast::<$type>(),
                            false,
                            false,
                            false,
                            parallelism,
                        )
                    };
                }
            };
        }
        by!(f16, gemm_f16::gemm::f16::get_gemm_fn());
        by!(f32, gemm_f32::gemm::f32::get_gemm_fn());
        by!(f64, gemm_f64::gemm::f64::get_gemm_fn());
        panic!("gemm computes f16, f32 and f64 only");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product of a vector with a transposed matrix as candle asks for it.
    #[allow(unsafe_code)]
    fn times<T: Copy + Send + Sync + 'static>(
        vector: &[T],
        matrix: &[T],
        zero: T,
        one: T,
        parallelism: Parallelism,
    ) -> Vec<T> {
        let k = vector.len();
        let n = matrix.len() / k;
        let mut product = vec![zero; n];
        // SAFETY: the strides are those of these lists.
        unsafe {
            gemm(
                1,
                n,
                k,
                product.as_mut_ptr(),
                1,
                n as isize,
                false,
                vector.as_ptr(),
                1,
                k as isize,
                matrix.as_ptr(),
                k as isize,
                1,
                zero,
                one,
                false,
                false,
                false,
                parallelism,
            );
        }
        product
    }

    fn numbers(count: usize) -> impl Iterator<Item = f32> {
        (0..count).map(|i| ((i * 7919 + 13) % 1009) as f32 / 1009.0 - 0.5)
    }

    #[test]
    fn a_product_is_the_same_to_the_bit_on_any_number_of_threads() {
        for (n, k) in [
            (1, 64),
            (575, 1024),
            (576, 1024),
            (4099, 260),
            (3001, 1031),
            (17_408, 64),
        ] {
            let vector: Vec<f32> = numbers(k).collect();
            let matrix: Vec<f32> = numbers(k * n).collect();
            let alone = times(&vector, &matrix, 0.0, 1.0, Parallelism::None);
            let half = |numbers: &[f32]| numbers.iter().map(|x| f16::from_f32(*x)).collect();
            let (vector16, matrix16): (Vec<f16>, Vec<f16>) = (half(&vector), half(&matrix));
            let zero = f16::ZERO;
            let alone16 = times(&vector16, &matrix16, zero, f16::ONE, Parallelism::None);
            for threads in [0, 2, 3, 16, 64] {
                let parallelism = Parallelism::Rayon(threads);
                assert_eq!(times(&vector, &matrix, 0.0, 1.0, parallelism), alone);
                assert_eq!(
                    times(&vector16, &matrix16, zero, f16::ONE, parallelism),
                    alone16
                );
            }
            let exact: f64 = vector
                .iter()
                .zip(&matrix[..k])
                .map(|(x, y)| f64::from(*x) * f64::from(*y))
                .sum();
            assert!((f64::from(alone[0]) - exact).abs() < 1e-3);
        }
    }

    #[test]
    fn parts_are_as_many_for_each_thread() {
        let parts = |m, k, threads| {
            let product = Product {
                m,
                n: 1,
                k,
                dst: std::ptr::null_mut::<f32>(),
                dst_cs: 0,
                dst_rs: 1,
                read_dst: false,
                lhs: std::ptr::null(),
                lhs_cs: 1,
                lhs_rs: 1,
                rhs: std::ptr::null(),
                rhs_cs: 1,
                rhs_rs: 1,
                alpha: 0.0,
                beta: 1.0,
            };
            product.parts(threads)
        };
        assert_eq!(parts(1024, 1024, 2), 2);
        assert_eq!(parts(4096, 1024, 2), 4);
        assert_eq!(parts(4096, 1024, 16), 14);
        assert_eq!(parts(4096, 1024, 1), 1);
        assert_eq!(parts(4096, 4, 2), 1);
        assert_eq!(parts(500, 4096, 2), 1);
    }
}
