/* The parts of a Vulkan and of a Level Zero loader that number devices: three cards each, of which one tells no address.
   Vulkan also has a processor, which says an address as Mesa's does since 25. */
#include <stdint.h>
#include <string.h>

typedef struct base { int32_t kind; struct base *next; } base;
typedef struct { base base; uint32_t api, driver, vendor, device, type; char name[256]; } properties;
typedef struct { base base; uint32_t id; } driver;
typedef struct { base base; uint32_t domain, bus, device, function; } pci;

static const uint32_t BUSES[] = {0x0a, 0x03, 0, 0};

int vkEnumerateInstanceVersion(uint32_t *version) { *version = 0x00403000; return 0; }
int vkCreateInstance(const void *info, const void *allocator, void **instance) { *instance = (void *)7; return 0; }
int vkEnumeratePhysicalDevices(void *instance, uint32_t *count, void **devices) {
    *count = 4;
    for (uintptr_t n = 0; devices && n < 4; n++) devices[n] = (void *)(n + 1);
    return instance != (void *)7;
}
void vkGetPhysicalDeviceProperties2(void *device, properties *out) {
    int n = (int)(uintptr_t)device - 1;
    out->vendor = 0x1002;
    out->type = n == 3 ? 4 : 2;
    strcpy(out->name, n == 3 ? "processor" : "card");
    for (base *next = out->base.next; next; next = next->next) {
        if (next->kind == 1000196000) ((driver *)next)->id = 3;
        if (next->kind == 1000212000 && (BUSES[n] || n == 3)) {
            pci *at = (pci *)next;
            at->domain = n % 3, at->bus = BUSES[n], at->device = at->function = 0;
        }
    }
}

typedef struct { base base; uint32_t domain, bus, device, function; int32_t generation, width; int64_t bandwidth; } ze_pci;

int zeInit(int flags) { return flags != 1; }
int zeDriverGet(uint32_t *count, void **drivers) {
    *count = 2;
    for (uintptr_t n = 0; drivers && n < 2; n++) drivers[n] = (void *)(n + 1);
    return 0;
}
int zeDeviceGet(void *driver, uint32_t *count, void **devices) {
    *count = driver == (void *)1 ? 2 : 1;
    for (uintptr_t n = 0; devices && n < *count; n++) devices[n] = (void *)(driver == (void *)1 ? n + 1 : 3);
    return 0;
}
int zeDevicePciGetPropertiesExt(void *device, ze_pci *out) {
    int n = (int)(uintptr_t)device - 1;
    if (out->base.kind != 0x10008 || !BUSES[n]) return 1;
    out->domain = n, out->bus = BUSES[n], out->device = 2, out->function = 0, out->bandwidth = -1;
    return 0;
}
