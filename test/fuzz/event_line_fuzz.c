/* Lines of the file of events: what decodes is encoded to a line that decodes to the same. And what
 * an operator may write behind --since. */
#include <stdlib.h>
#include <string.h>

#include "control/event_file.h"
#include "control/since.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(const char *line, size_t size)
{
    struct control_event event, again;
    char encoded[EVENT_LINE_MAX];
    if (event_line_decode(line, size, &event) < 0)
        return;
    const size_t length = event_line_encode(&event, encoded);
    if (length >= EVENT_LINE_MAX || encoded[length - 1] != '\n' ||
        event_line_decode(encoded, length - 1, &again) < 0 ||
        memcmp(&event, &again, sizeof(event)) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct since since;
    check_line((const char *)data, size);
    char *text = strndup((const char *)data, size);
    if (text && since_parse(text, SEC(1700000000), &since, NULL) == 0 && since.id && since.wall_ns)
        abort();
    free(text);
    return 0;
}
