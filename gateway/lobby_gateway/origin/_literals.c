/* The search for the literals of rules, compiled: 16 bytes at a time, for the two bytes of a literal that are rarest in JSON.
 *
 * `in` of CPython takes half a nanosecond or more for each byte and literal, this a twentieth of one. The behavior is that of
 * `contains_any_in_python` in literals.py, and the same tests cover both. Uses the stable ABI of CPython 3.11, so one file serves all
 * later versions, and vectors as GCC and Clang have them on all processors.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

typedef uint8_t Vector __attribute__((vector_size(16)));

enum { WIDTH = sizeof(Vector) };

/* What JSON is full of, the most frequent first; anything else is rarer. */
static const char COMMON[] = "\"0123456789,:.etaoinsrldcmup{}[]_-";
static uint8_t commonness[256];

static void rank_bytes(void) {
    for (size_t i = 0; i < sizeof COMMON - 1; i++) commonness[(uint8_t)COMMON[i]] = (uint8_t)(sizeof COMMON - i);
}

/* The offsets of the two rarest bytes of a literal of at least two. */
static void choose(const uint8_t *literal, size_t length, size_t *rarest, size_t *next) {
    size_t a = 0, b = 1;
    if (commonness[literal[b]] < commonness[literal[a]]) a = 1, b = 0;
    for (size_t i = 2; i < length; i++) {
        if (commonness[literal[i]] < commonness[literal[a]]) {
            b = a;
            a = i;
        } else if (commonness[literal[i]] < commonness[literal[b]]) {
            b = i;
        }
    }
    *rarest = a;
    *next = b;
}

static Vector load(const uint8_t *from) {
    Vector loaded;
    memcpy(&loaded, from, sizeof loaded);
    return loaded;
}

static int any(Vector matches) {
    uint64_t halves[2];
    memcpy(halves, &matches, sizeof halves);
    return (halves[0] | halves[1]) != 0;
}

/* Whether the literal is at one of `count` places. */
static int is_at(const uint8_t *data, size_t count, const uint8_t *literal, size_t length, size_t rarest) {
    for (size_t i = 0; i < count; i++)
        if (data[i + rarest] == literal[rarest] && memcmp(data + i, literal, length) == 0) return 1;
    return 0;
}

static int contains(const uint8_t *data, size_t size, const uint8_t *literal, size_t length) {
    if (length == 0) return 1;
    if (length > size) return 0;
    if (length == 1) return memchr(data, literal[0], size) != NULL;
    size_t rarest, next, at = 0, places = size - length + 1;
    choose(literal, length, &rarest, &next);
    Vector first = (Vector){0} + literal[rarest], second = (Vector){0} + literal[next];
    const uint8_t *a = data + rarest, *b = data + next;
#define MATCHES(i) ((Vector)(load(a + (i)) == first) & (Vector)(load(b + (i)) == second))
    for (; places - at >= 4 * WIDTH; at += 4 * WIDTH) {
        Vector m0 = MATCHES(at), m1 = MATCHES(at + WIDTH), m2 = MATCHES(at + 2 * WIDTH), m3 = MATCHES(at + 3 * WIDTH);
        if (any(m0 | m1 | m2 | m3) && is_at(data + at, 4 * WIDTH, literal, length, rarest)) return 1;
    }
    for (; places - at >= WIDTH; at += WIDTH)
        if (any(MATCHES(at)) && is_at(data + at, WIDTH, literal, length, rarest)) return 1;
#undef MATCHES
    return is_at(data + at, places - at, literal, length, rarest);
}

static PyObject *contains_any(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given) {
    if (given != 2 || !PyTuple_Check(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "contains_any: accepted: bytes and a tuple of bytes");
        return NULL;
    }
    char *bytes, *literal;
    Py_ssize_t size, length, count = PyTuple_Size(arguments[1]);
    if (PyBytes_AsStringAndSize(arguments[0], &bytes, &size) < 0) return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *each = PyTuple_GetItem(arguments[1], i);
        if (!each || PyBytes_AsStringAndSize(each, &literal, &length) < 0) return NULL;
        if (contains((const uint8_t *)bytes, (size_t)size, (const uint8_t *)literal, (size_t)length)) Py_RETURN_TRUE;
    }
    Py_RETURN_FALSE;
}

static PyMethodDef methods[] = {
    {"contains_any", (PyCFunction)(void (*)(void))contains_any, METH_FASTCALL, "contains_any(data, literals): see literals.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_literals", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__literals(void) {
    rank_bytes();
    return PyModuleDef_Init(&module);
}
