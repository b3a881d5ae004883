/* A library with the function of ggml that the preloaded one stands in for. Its own call of it must arrive
   here with what was passed, however the library was loaded. */
static void *kept[3];

void ggml_backend_sched_set_eval_callback(void *sched, void *callback, void *data) {
    kept[0] = sched;
    kept[1] = callback;
    kept[2] = data;
}

int arrives(void) {
    int words[3];
    ggml_backend_sched_set_eval_callback(&words[0], &words[1], &words[2]);
    return kept[0] == &words[0] && kept[1] == &words[1] && kept[2] == &words[2];
}
