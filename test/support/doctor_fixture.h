/* kemarictl doctor in this process, on a configuration in a directory that is the test's own. */
#ifndef KEMARI_TEST_SUPPORT_DOCTOR_FIXTURE_H
#define KEMARI_TEST_SUPPORT_DOCTOR_FIXTURE_H

#include <jansson.h>
#include <sys/types.h>

#include "base/types.h"

extern char doctor_directory[];
extern char doctor_config[64], doctor_secret[64], doctor_disk[64]; /* files in it */
extern char doctor_program[64];
extern char doctor_state_dir[64]; /* in it, never made */

/* Makes the directory; false: it can't. */
bool doctor_begin(void);
/* Removes it and the files above: false when anything else was left in it. */
bool doctor_end(void);

/* A file with that text; an older one goes. */
void doctor_write_file(const char *path, const char *text, mode_t mode);

/* Runs "doctor --json" on doctor_config; what it says, to be released. */
json_t *doctor_run(int *status);

const char *doctor_text_of(const json_t *object, const char *key);

/* The reason of that check; "" when there is none. */
const char *doctor_reason_of(const json_t *json, const char *check, const char *subject);

/* Runs it and asserts that the check has that reason; and, if refused, that the answer is no. */
void doctor_expect_refused(const char *check, const char *subject, const char *reason);
void doctor_expect_reason(const char *check, const char *subject, const char *reason);

/* Runs assertions in a child, for what can't be undone, and asserts that none of them failed. */
void doctor_in_child(void (*assertions)(void));

#endif
