//! The element types of ggml tensors: name, block size, bytes per block.
//!
//! Ids and sizes are those of `enum ggml_type` (`ggml.h`) and `type_traits` (`ggml.c`) in
//! llama.cpp; ids are part of the file format and never used twice.

use std::fmt;

/// Why a type id names no type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadType {
    /// The type existed once; llama.cpp no longer reads files that use it.
    #[error("tensor type {id} ({name}) was removed from ggml")]
    Removed {
        /// The id in the file.
        id: u32,
        /// What it was called.
        name: &'static str,
    },
    /// No released ggml knows this id.
    #[error("tensor type {id} is unknown")]
    Unknown {
        /// The id in the file.
        id: u32,
    },
}

/// One row a type: variant, id in the file, name as llama.cpp prints it, elements and bytes of one
/// block.
macro_rules! ggml_types {
    ($($variant:ident = $id:literal, $name:literal, $elements:literal, $bytes:literal;)+) => {
        /// The element type of a tensor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, missing_docs)]
        #[repr(u32)]
        pub enum GgmlType { $($variant = $id),+ }

        impl GgmlType {
            /// Every type, by ascending id.
            pub const ALL: &'static [GgmlType] = &[$(GgmlType::$variant),+];

            /// The type that `id` names in a file.
            pub const fn from_id(id: u32) -> Result<GgmlType, BadType> {
                match id {
                    $($id => Ok(GgmlType::$variant),)+
                    _ => Err(match removed(id) {
                        Some(name) => BadType::Removed { id, name },
                        None => BadType::Unknown { id },
                    }),
                }
            }

            /// The name that llama.cpp prints: `q4_K`, `bf16`.
            pub const fn name(self) -> &'static str {
                match self { $(GgmlType::$variant => $name),+ }
            }

            /// Elements in one block; a row is a whole number of blocks.
            pub const fn block_elements(self) -> u64 {
                match self { $(GgmlType::$variant => $elements),+ }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> u64 {
                match self { $(GgmlType::$variant => $bytes),+ }
            }
        }
    };
}

ggml_types! {
    F32     =  0, "f32",       1,   4;
    F16     =  1, "f16",       1,   2;
    Q4_0    =  2, "q4_0",     32,  18;
    Q4_1    =  3, "q4_1",     32,  20;
    Q5_0    =  6, "q5_0",     32,  22;
    Q5_1    =  7, "q5_1",     32,  24;
    Q8_0    =  8, "q8_0",     32,  34;
    // 40 bytes until the sum became f16 in 2024; it is an activation type that no file holds.
    Q8_1    =  9, "q8_1",     32,  36;
    Q2_K    = 10, "q2_K",    256,  84;
    Q3_K    = 11, "q3_K",    256, 110;
    Q4_K    = 12, "q4_K",    256, 144;
    Q5_K    = 13, "q5_K",    256, 176;
    Q6_K    = 14, "q6_K",    256, 210;
    Q8_K    = 15, "q8_K",    256, 292;
    IQ2_XXS = 16, "iq2_xxs", 256,  66;
    IQ2_XS  = 17, "iq2_xs",  256,  74;
    IQ3_XXS = 18, "iq3_xxs", 256,  98;
    IQ1_S   = 19, "iq1_s",   256,  50;
    IQ4_NL  = 20, "iq4_nl",   32,  18;
    IQ3_S   = 21, "iq3_s",   256, 110;
    IQ2_S   = 22, "iq2_s",   256,  82;
    IQ4_XS  = 23, "iq4_xs",  256, 136;
    I8      = 24, "i8",        1,   1;
    I16     = 25, "i16",       1,   2;
    I32     = 26, "i32",       1,   4;
    I64     = 27, "i64",       1,   8;
    F64     = 28, "f64",       1,   8;
    IQ1_M   = 29, "iq1_m",   256,  56;
    BF16    = 30, "bf16",      1,   2;
    TQ1_0   = 34, "tq1_0",   256,  54;
    TQ2_0   = 35, "tq2_0",   256,  66;
    MXFP4   = 39, "mxfp4",    32,  17;
    NVFP4   = 40, "nvfp4",    64,  36;
    Q1_0    = 41, "q1_0",    128,  18;
    Q2_0    = 42, "q2_0",     64,  18;
}

/// Names of the ids that ggml has retired.
const fn removed(id: u32) -> Option<&'static str> {
    Some(match id {
        4 => "q4_2",
        5 => "q4_3",
        31 => "q4_0_4_4",
        32 => "q4_0_4_8",
        33 => "q4_0_8_8",
        36 => "iq4_nl_4_4",
        37 => "iq4_nl_4_8",
        38 => "iq4_nl_8_8",
        _ => return None,
    })
}

impl GgmlType {
    /// The id in the file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of a row of `elements`; `None` when that is no whole number of blocks or overflows.
    pub const fn row_bytes(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_gaps_are_named() {
        for id in 0..200 {
            match GgmlType::from_id(id) {
                Ok(found) => assert_eq!(found.id(), id),
                Err(BadType::Removed { id: removed, .. }) => assert!([4, 5, 31, 32, 33, 36, 37, 38].contains(&removed)),
                Err(BadType::Unknown { .. }) => assert!(id > 42, "{id}"),
            }
        }
        assert_eq!(GgmlType::ALL.len(), 43 - 8);
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(GgmlType::Q4_K.row_bytes(4096), Some(16 * 144));
        assert_eq!(GgmlType::Q4_K.row_bytes(4097), None);
        assert_eq!(GgmlType::MXFP4.row_bytes(2880), Some(90 * 17));
        assert_eq!(GgmlType::F64.row_bytes(u64::MAX), None);
        assert_eq!(GgmlType::F32.row_bytes(0), Some(0));
    }
}
