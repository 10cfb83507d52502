#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int code, const char *format, ...)
{
    assert(code < 0);
    if (!err)
        return code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    err->code = code;
    return code;
}

int error_prefix(struct error *err, const char *format, ...)
{
    if (!err)
        return -1;
    char context[ERROR_TEXT_MAX / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof(context), format, args);
    va_end(args);
    char joined[2 * ERROR_TEXT_MAX];
    snprintf(joined, sizeof(joined), "%s: %s", context, err->text);
    memcpy(err->text, joined, sizeof(err->text) - 1);
    err->text[sizeof(err->text) - 1] = '\0';
    return err->code;
}
