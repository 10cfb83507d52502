/* The one error convention.
 *
 * A function that can fail returns 0 or a negative errno. Where the caller needs more than the
 * number, the last parameter is a `struct error *` into which the function writes one phrase: what
 * failed, on what object, and what to do about it where that is known. No trailing full stop or
 * newline, no "Error:" prefix. It is logged or printed once, by whoever decides what happens next.
 *
 *   RIGHT: return error_set(err, -ENOENT, "kernel image %s: no such file", path);
 *   WRONG: log_error(...); return error_set(...);          reported twice
 *   WRONG: error_set(err, -errno, "open failed");          which file? to what end?
 *   WRONG: error_set(err, ...) after another error_set     the first cause is lost; prefix instead
 *
 * `err` may be NULL everywhere: the number alone is returned then. */
#ifndef KEMARI_BASE_ERROR_H
#define KEMARI_BASE_ERROR_H

#define ERROR_TEXT_MAX 512

struct error {
    int code;                  /* negative errno, 0 when unset */
    char text[ERROR_TEXT_MAX]; /* one phrase, always terminated */
};

/* Stores the phrase (truncated if too long) and returns `code`, which must be negative. */
int error_set(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts context in front of what is already there: "<context>: <text>". Returns err's code. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
