/* The same, as if llama.cpp were linked in: the program holds the name of its node. */
#include "mixture.c"

const char node[] = "ffn_moe_topk";
