#include "test/support/kemarictl_words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/verbs.h"
#include "control/kemarictl.h"
#include "test/support/runner.h"

#define ARGS_MAX 16

int kemarictl_run_words(const char *words, char **out, char **err)
{
    char copy[512];
    snprintf(copy, sizeof(copy), "%s", words);
    char *argv[ARGS_MAX] = {(char *)"kemarictl"};
    int argc = 1;
    char *rest = copy;
    for (char *word; (word = strsep(&rest, " ")) != NULL && argc < ARGS_MAX;)
        if (*word)
            argv[argc++] = word;
    size_t out_size, err_size;
    FILE *out_stream = open_memstream(out, &out_size);
    FILE *err_stream = open_memstream(err, &err_size);
    const int status = kemarictl_run(app_verbs, argc, argv, out_stream, err_stream);
    fclose(out_stream);
    fclose(err_stream);
    return status;
}

void kemarictl_expect(const char *words, int status, const char *wanted_out, const char *wanted_err)
{
    char *out, *err;
    const int got = kemarictl_run_words(words, &out, &err);
    CU_ASSERT_EQUAL(got, status);
    if (wanted_out)
        CU_ASSERT_STRING_EQUAL(out, wanted_out);
    CU_ASSERT_STRING_EQUAL(err, wanted_err);
    if (got != status || strcmp(err, wanted_err) != 0 ||
        (wanted_out && strcmp(out, wanted_out) != 0))
        printf("\n  kemarictl %s: %d\n%s%s", words, got, out, err);
    free(out);
    free(err);
}
