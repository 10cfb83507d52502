/* kemarictl config check: success, refusal, and both as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "test/support/kemarictl_words.h"
#include "test/support/runner.h"

#define GOOD "[vm]\nname = web\nrole = primary\n[machine]\nmemory = 64M\nkernel = /bin/sh\n"

static char directory[] = "/tmp/kemarictl-config-XXXXXX";
static char file[64];

static void write_config(const char *text)
{
    FILE *stream = fopen(file, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
    fputs(text, stream);
    fclose(stream);
}

static void expect(const char *options, int status, const char *out_format, const char *err_format)
{
    char words[128], out[256], err[256];
    snprintf(words, sizeof(words), "config check %s%s", file, options);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(out, sizeof(out), out_format, file);
    snprintf(err, sizeof(err), err_format, file);
#pragma GCC diagnostic pop
    kemarictl_expect(words, status, out, err);
}

static void a_configuration_without_fault_is_said_to_be_so(void)
{
    write_config(GOOD);
    expect("", 0, "%s: machine web, nothing is wrong with it\n", "");
    expect(" --json", 0,
           "{\n  \"schema\": 1,\n  \"file\": \"%s\",\n  \"ok\": true,\n  \"vm\": \"web\",\n  "
           "\"error\": \"\"\n}\n",
           "");
}

static void a_fault_is_named_with_its_line(void)
{
    write_config(GOOD "memroy = 1G\n");
    char *out, *err, words[128];
    snprintf(words, sizeof(words), "config check %s", file);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 1);
    CU_ASSERT_STRING_EQUAL(out, "");
    CU_ASSERT_PTR_NOT_NULL(strstr(err, file));
    CU_ASSERT_PTR_NOT_NULL(strstr(err, "memroy"));
    free(out);
    free(err);
    snprintf(words, sizeof(words), "config check %s --json", file);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 1);
    CU_ASSERT_STRING_EQUAL(err, "");
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\n  \"ok\": false,\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "memroy"));
    free(out);
    free(err);
}

static void a_file_that_is_not_there_is_refused(void)
{
    unlink(file);
    char *out, *err, words[128];
    snprintf(words, sizeof(words), "config check %s", file);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(err, file));
    free(out);
    free(err);
}

static void other_words_make_no_sense(void)
{
    static const char *const nonsense[] = {"config", "config check", "config check a b",
                                           "config cheque a"};
    for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++)
        kemarictl_expect(nonsense[i], 2, "",
                         "kemarictl: config: say \"check FILE\" (try --help)\n");
}

static const struct test_case cases[] = {
    {"a configuration without fault is said to be so",
     a_configuration_without_fault_is_said_to_be_so},
    {"a fault is named with its line", a_fault_is_named_with_its_line},
    {"a file that is not there is refused", a_file_that_is_not_there_is_refused},
    {"other words make no sense", other_words_make_no_sense},
};

int main(int argc, char **argv)
{
    if (!mkdtemp(directory))
        return 1;
    snprintf(file, sizeof(file), "%s/web.ini", directory);
    const int status = test_run(argc, argv, "kemarictl-config", cases, ARRAY_SIZE(cases));
    unlink(file);
    rmdir(directory);
    return status;
}
