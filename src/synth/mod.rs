//! Random-weight GGUF models that real llama.cpp loads.
