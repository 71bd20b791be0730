"""The devices that commands train on."""

from keras_convnext.training import distribution


def start_devices(devices, hosts, host_index, model_parallel, oversubscribe):
    """Starts what the options of a command ask for, or a launcher started.

    Args:
        devices: text, a number or `"all"`; `None` for this process alone.
        hosts, host_index, model_parallel, oversubscribe: as for
            `distribution.start`.
    """

    is_asked = devices or hosts or host_index is not None or model_parallel > 1
    if not (is_asked or distribution.is_launched()):
        return
    count = devices
    if devices and devices.isdigit():
        count = int(devices)
    distribution.start(count, hosts, host_index, model_parallel, oversubscribe)
