#include "test/support/doctor_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "test/support/kemarictl_words.h"
#include "test/support/runner.h"

char doctor_directory[] = "/tmp/kemarictl-doctor-XXXXXX";
char doctor_config[64], doctor_secret[64], doctor_disk[64], doctor_state_dir[64],
    doctor_program[64];

bool doctor_begin(void)
{
    if (!mkdtemp(doctor_directory))
        return false;
    snprintf(doctor_config, sizeof(doctor_config), "%s/web.ini", doctor_directory);
    snprintf(doctor_secret, sizeof(doctor_secret), "%s/web.secret", doctor_directory);
    snprintf(doctor_state_dir, sizeof(doctor_state_dir), "%s/state", doctor_directory);
    snprintf(doctor_disk, sizeof(doctor_disk), "%s/disk.img", doctor_directory);
    snprintf(doctor_program, sizeof(doctor_program), "%s/program", doctor_directory);
    return true;
}

bool doctor_end(void)
{
    unlink(doctor_config);
    unlink(doctor_secret);
    unlink(doctor_disk);
    unlink(doctor_program);
    return rmdir(doctor_directory) == 0;
}

void doctor_write_file(const char *path, const char *text, mode_t mode)
{
    unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(fd_write_all(fd, text, strlen(text)), 0);
    CU_ASSERT_EQUAL(fchmod(fd, mode), 0);
    close(fd);
}

json_t *doctor_run(int *status)
{
    char words[128], *out, *err;
    snprintf(words, sizeof(words), "doctor --json %s", doctor_config);
    *status = kemarictl_run_words(words, &out, &err);
    CU_ASSERT_STRING_EQUAL(err, "");
    json_t *json = json_loads(out, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(json);
    free(out);
    free(err);
    return json;
}

const char *doctor_text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    return text;
}

const char *doctor_reason_of(const json_t *json, const char *check, const char *subject)
{
    const json_t *checks = json_object_get(json, "checks");
    for (size_t i = 0; i < json_array_size(checks); i++) {
        const json_t *finding = json_array_get(checks, i);
        if (strcmp(doctor_text_of(finding, "check"), check) == 0 &&
            strcmp(doctor_text_of(finding, "subject"), subject) == 0)
            return doctor_text_of(finding, "reason");
    }
    return "";
}

void doctor_expect_refused(const char *check, const char *subject, const char *reason)
{
    int status;
    json_t *json = doctor_run(&status);
    CU_ASSERT_EQUAL(status, 1);
    CU_ASSERT_TRUE(json_is_false(json_object_get(json, "can_protect")));
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, check, subject), reason);
    json_decref(json);
}

void doctor_expect_reason(const char *check, const char *subject, const char *reason)
{
    int status;
    json_t *json = doctor_run(&status);
    CU_ASSERT_STRING_EQUAL(doctor_reason_of(json, check, subject), reason);
    json_decref(json);
}

void doctor_in_child(void (*assertions)(void))
{
    fflush(NULL);
    const pid_t child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0) {
        const unsigned before = CU_get_number_of_failures();
        assertions();
        fflush(NULL);
        _exit(CU_get_number_of_failures() == before ? 0 : 1);
    }
    int status;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_EQUAL(status, 0);
}
