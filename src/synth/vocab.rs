//! A vocabulary for llama.cpp's SentencePiece tokenizer (`tokenizer.ggml.model` = `llama`).
//!
//! Control tokens, one token for each byte (so that every text has a tokenization), the printable
//! ASCII characters, and made-up words for the rest.

/// Ids of the control tokens.
pub(super) const UNKNOWN: u32 = 0;
/// Begin of text.
pub(super) const BEGIN: u32 = 1;
/// End of text.
pub(super) const END: u32 = 2;

/// Tokens before the made-up words: 3 control tokens, 256 bytes, the space, 94 characters, 26
/// letters after a space.
pub(super) const FIXED: u64 = 3 + 256 + 1 + 94 + 26;
/// The least vocabulary: the fixed tokens and a few words.
pub(super) const TOKENS_MIN: u64 = 384;
/// The largest vocabulary: what words of three syllables are enough for.
pub(super) const TOKENS_MAX: u64 = 500_000;

/// How SentencePiece writes a space.
const SPACE: &str = "\u{2581}";
const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 5] = b"aeiou";

/// `enum llama_token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    Byte = 6,
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub text: String,
    pub score: f32,
    pub kind: TokenType,
}

/// Word `n`: the space, then `n` in syllables as digits (no digit is a zero, so each `n` has a word
/// of its own; each syllable has two letters, so none is a single letter).
fn word(mut n: u64) -> String {
    let mut syllables = Vec::new();
    loop {
        let digit = (n % 80) as usize;
        syllables.push([CONSONANTS[digit / 5], VOWELS[digit % 5]]);
        match (n / 80).checked_sub(1) {
            Some(rest) => n = rest,
            None => break,
        }
    }
    let letters = syllables.iter().rev().flatten().map(|&letter| char::from(letter));
    SPACE.chars().chain(letters).collect()
}

/// The `count` tokens, at least [`TOKENS_MIN`].
pub(super) fn tokens(count: u64) -> Vec<Token> {
    assert!((TOKENS_MIN..=TOKENS_MAX).contains(&count));
    let control = [("<unk>", TokenType::Unknown), ("<s>", TokenType::Control), ("</s>", TokenType::Control)];
    let control = control.into_iter().map(|(text, kind)| (text.to_owned(), kind));
    let bytes = (0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), TokenType::Byte));
    let pieces = std::iter::once(SPACE.to_owned())
        .chain(('!'..='~').map(String::from))
        .chain(('a'..='z').map(|letter| format!("{SPACE}{letter}")))
        .chain((0..count - FIXED).map(word))
        .map(|text| (text, TokenType::Normal));
    let scored = |(index, (text, kind))| {
        // The tokenizer merges what has the highest score first: earlier tokens win.
        let score = if kind == TokenType::Normal { -(index as f32) } else { 0.0 };
        Token { text, score, kind }
    };
    control.chain(bytes).chain(pieces).enumerate().map(scored).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tokens_are_unique_and_as_many_as_asked() {
        for count in [TOKENS_MIN, 4096, 128_256] {
            let tokens = tokens(count);
            assert_eq!(tokens.len() as u64, count);
            let texts: HashSet<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
            assert_eq!(texts.len(), tokens.len());
            assert!(tokens.iter().all(|token| !token.text.is_empty()));
        }
        assert_eq!(tokens(400)[END as usize].text, "</s>");
        assert_eq!(tokens(400)[3 + 0x41].text, "<0x41>");
    }
}
