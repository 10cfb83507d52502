/* Both directions of the control socket. What decodes must encode again, within the limits. */
#include <stdlib.h>

#include "control/json.h"
#include "control/message.h"
#include "control/render.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct control_reply reply;
    struct control_request request;
    struct error err;
    uint8_t *frame;
    size_t frame_size;
    if (control_request_decode(data, size, &request, &err) == 0 &&
        control_request_encode(&request, &frame, &frame_size) == 0)
        free(frame);
    if (control_reply_decode(data, size, &reply, &err) < 0)
        return 0;
    if (control_reply_encode(&reply, &frame, &frame_size) == 0) {
        if (frame_size - CONTROL_PREFIX_SIZE > CONTROL_REPLY_MAX)
            abort();
        free(frame);
    }
    if (reply.kind == CONTROL_REPLY_STATUS) {
        char *text = control_json_status(&reply.status, true);
        if (!text)
            abort();
        free(text);
        FILE *out = fopen("/dev/null", "we");
        control_render_status(&reply.status, true, out);
        fclose(out);
    }
    return 0;
}
