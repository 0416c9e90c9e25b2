// librte_acl, for `tidegate-bench classify` to compare with: its rules and headers on standard input, then a wish a line,
// each answered by a line on standard output. `./dev bench classify` builds it, because it needs DPDK.
//
//   input     WORDS RULES HEADERS TRACE   words of an address: 1 for IPv4, 4 for IPv6
//             then a line for each rule:    SRC... BITS DST... BITS SPORT SPORT DPORT DPORT PROTO MASK PRIORITY
//             then a line for each header:  SRC... DST... SPORT DPORT PROTO
//             then a line for each lookup:  HEADER, counted from 0
//   answer    built SECONDS BYTES         of the build, and of what lookups use
//   answers   RULE...                     of each header, counted from 0; -1 if there is none
//   tune      VARIANT BATCH               the fastest of all there are, used from then on
//   round S   LOOKUPS SECONDS             over and over through the trace, for S seconds
//
// The argument is the core to run on.
#include <arpa/inet.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <rte_acl.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>

#define WORDS_MAX 4
#define FIELDS_MAX (1 + 2 * WORDS_MAX + 2)
#define HUGE_PAGE (2ULL << 20)
// Of memory for lookups: more than any set was seen to need. DPDK writes to all of it at once, so it is not more than that.
#define HEAP_BYTES_EACH (16ULL << 10)
#define HEAP_BYTES_MIN (64ULL << 20)
#define HEAP_BYTES_MAX (5ULL << 30)
#define LOOK_EACH 8192 // lookups between two looks at the clock
#define TRIES 3 // of each variant and batch, when the fastest is looked for
#define TRY_SECONDS 0.1 // at most

RTE_ACL_RULE_DEF(rule, FIELDS_MAX);

static const struct variant {
	const char *name;
	enum rte_acl_classify_alg alg;
} VARIANTS[] = {
	{ "scalar", RTE_ACL_CLASSIFY_SCALAR },
	{ "sse", RTE_ACL_CLASSIFY_SSE },
	{ "avx2", RTE_ACL_CLASSIFY_AVX2 },
	{ "avx512x16", RTE_ACL_CLASSIFY_AVX512X16 },
	{ "avx512x32", RTE_ACL_CLASSIFY_AVX512X32 },
};

static const uint32_t BATCHES[] = { 32, 64, 128, 256 };

// Headers to look up, one after the other, and what is found: a rule, from 1; 0 if there is none.
struct lookups {
	const uint8_t **headers;
	uint32_t *rules;
	uint32_t count;
};

static struct rte_acl_ctx *acl;

static void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static uint32_t number(void)
{
	uint32_t value;
	if (scanf("%" SCNu32, &value) != 1)
		die("the input is not what bench/acl.c says");
	return value;
}

// Memory for what lookups use, of huge pages as far as the kernel has them: librte_acl is to be at its best.
static int heap(uint32_t rules)
{
	uint64_t bytes = RTE_ALIGN(RTE_MIN(RTE_MAX(rules * HEAP_BYTES_EACH, HEAP_BYTES_MIN), HEAP_BYTES_MAX), HUGE_PAGE);
	char *base = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		die("no memory for %" PRIu64 " bytes", bytes);
	base = RTE_PTR_ALIGN(base, HUGE_PAGE);
	madvise(base, bytes, MADV_HUGEPAGE); // where it fails, lookups are slower
	if (rte_malloc_heap_create("acl") || rte_malloc_heap_memory_add("acl", base, bytes, NULL, 0, HUGE_PAGE))
		die("no heap: %s", rte_strerror(rte_errno));
	return rte_malloc_heap_get_socket("acl");
}

// A header: the protocol in a word of its own, the words of both addresses, both ports in one word; in network byte order.
static uint32_t header_words(uint32_t words)
{
	return 1 + 2 * words + 1;
}

// Where the fields of a header are. Returns their number.
static uint32_t fields(uint32_t words, struct rte_acl_field_def *defs)
{
	uint32_t word = 0, last = header_words(words) - 1;
	defs[word] = (struct rte_acl_field_def){ RTE_ACL_FIELD_TYPE_BITMASK, 1, word, word, 0 };
	for (word = 1; word < last; word++)
		defs[word] = (struct rte_acl_field_def){ RTE_ACL_FIELD_TYPE_MASK, 4, word, word, 4 * word };
	defs[last] = (struct rte_acl_field_def){ RTE_ACL_FIELD_TYPE_RANGE, 2, last, last, 4 * last };
	defs[last + 1] = (struct rte_acl_field_def){ RTE_ACL_FIELD_TYPE_RANGE, 2, last + 1, last, 4 * last + 2 };
	return last + 2;
}

static void read_rule(uint32_t words, uint32_t id)
{
	struct rule rule = { 0 };
	uint32_t field = 1;
	for (int end = 0; end < 2; end++) {
		for (uint32_t word = 0; word < words; word++)
			rule.field[field + word].value.u32 = number();
		for (uint32_t word = 0, bits = number(); word < words; word++, bits -= rule.field[field++].mask_range.u32)
			rule.field[field].mask_range.u32 = RTE_MIN(bits, 32u);
	}
	for (int end = 0; end < 2; end++, field++) {
		rule.field[field].value.u16 = number();
		rule.field[field].mask_range.u16 = number();
	}
	rule.field[0].value.u8 = number();
	rule.field[0].mask_range.u8 = number();
	rule.data.priority = RTE_ACL_MAX_PRIORITY - number(); // here the highest is the best
	rule.data.category_mask = 1;
	rule.data.userdata = id + 1; // 0 means none
	if (rte_acl_add_rules(acl, (struct rte_acl_rule *)&rule, 1))
		die("rule %" PRIu32 " is refused", id);
}

static void read_header(uint32_t words, uint32_t *header)
{
	for (uint32_t word = 1; word <= 2 * words; word++)
		header[word] = htonl(number());
	uint32_t sport = number(), dport = number();
	header[1 + 2 * words] = htonl(sport << 16 | dport);
	*(uint8_t *)header = number();
}

static void *array(uint32_t count, size_t size)
{
	void *array = calloc(count, size);
	if (!array)
		die("no memory for %" PRIu32 " times %zu bytes", count, size);
	return array;
}

static struct lookups lookups(uint32_t count)
{
	return (struct lookups){ array(count, sizeof(uint8_t *)), array(count, sizeof(uint32_t)), count };
}

static void build(struct lookups *each, struct lookups *trace)
{
	uint32_t words = number(), rules = number(), headers = number(), trace_length = number();
	if (words != 1 && words != WORDS_MAX)
		die("an address has 1 word or %d", WORDS_MAX);
	struct rte_acl_config config = { .num_categories = 1 };
	config.num_fields = fields(words, config.defs);
	int socket = heap(rules);
	struct rte_acl_param param = { "bench", socket, RTE_ACL_RULE_SZ(config.num_fields), rules };
	acl = rte_acl_create(&param);
	if (!acl)
		die("no context: %s", rte_strerror(rte_errno));
	for (uint32_t id = 0; id < rules; id++)
		read_rule(words, id);
	uint32_t *header = array(headers, 4 * header_words(words));
	*each = lookups(headers);
	for (uint32_t id = 0; id < headers; id++, header += header_words(words)) {
		read_header(words, header);
		each->headers[id] = (const uint8_t *)header;
	}
	*trace = lookups(trace_length);
	for (uint32_t place = 0; place < trace_length; place++) {
		uint32_t id = number();
		if (id >= headers)
			die("the trace has header %" PRIu32 ", and there are %" PRIu32, id, headers);
		trace->headers[place] = each->headers[id];
	}

	struct rte_malloc_socket_stats before = { 0 }, after = { 0 };
	rte_malloc_get_socket_stats(socket, &before);
	double start = now();
	int error = rte_acl_build(acl, &config);
	double took = now() - start;
	if (error)
		die("the build failed: %s", rte_strerror(-error));
	rte_malloc_get_socket_stats(socket, &after);
	printf("built %.6f %zu\n", took, after.heap_allocsz_bytes - before.heap_allocsz_bytes);
}

// All lookups once, or until `end`. Returns how many.
static uint32_t pass(const struct lookups *lookups, uint32_t batch, double end)
{
	for (uint32_t done = 0, look = LOOK_EACH; done < lookups->count;) {
		uint32_t size = RTE_MIN(batch, lookups->count - done);
		rte_acl_classify(acl, lookups->headers + done, lookups->rules + done, size, 1);
		done += size;
		if (done >= look) {
			look += LOOK_EACH;
			if (now() >= end)
				return done;
		}
	}
	return lookups->count;
}

// Looks for the fastest variant and batch, in turns. Returns the batch.
static uint32_t tune(const struct lookups *trace)
{
	const struct variant *best = NULL;
	uint32_t best_batch = 0;
	double best_rate = 0;
	for (int try = 0; try < TRIES; try++) {
		for (const struct variant *variant = VARIANTS; variant < VARIANTS + RTE_DIM(VARIANTS); variant++) {
			if (rte_acl_set_ctx_classify(acl, variant->alg))
				continue; // not on this processor
			for (uint32_t i = 0; i < RTE_DIM(BATCHES); i++) {
				double start = now();
				uint32_t lookups = pass(trace, BATCHES[i], start + TRY_SECONDS);
				double rate = lookups / (now() - start);
				if (rate > best_rate)
					best = variant, best_batch = BATCHES[i], best_rate = rate;
			}
		}
	}
	rte_acl_set_ctx_classify(acl, best->alg);
	printf("%s %" PRIu32 "\n", best->name, best_batch);
	return best_batch;
}

static void run_round(const struct lookups *trace, uint32_t batch, double seconds)
{
	uint64_t lookups = 0;
	double start = now(), end = start + seconds, time = start;
	for (; time < end; time = now())
		lookups += pass(trace, batch, end);
	printf("%" PRIu64 " %.9f\n", lookups, time - start);
}

static void answers(const struct lookups *each)
{
	pass(each, BATCHES[0], INFINITY);
	for (uint32_t id = 0; id < each->count; id++)
		printf("%" PRId64 "%c", (int64_t)each->rules[id] - 1, id + 1 < each->count ? ' ' : '\n');
}

int main(int argc, char **argv)
{
	if (argc != 2)
		die("usage: %s CORE", argv[0]);
	char *eal[] = { argv[0], "-l", argv[1], "--no-huge", "-m", "64", "--no-shconf", "--no-pci", "--no-telemetry",
		"--log-level=lib.*:error", "--force-max-simd-bitwidth=512" };
	if (rte_eal_init(RTE_DIM(eal), eal) < 0)
		die("DPDK does not start: %s", rte_strerror(rte_errno));
	struct lookups each, trace;
	build(&each, &trace);
	char wish[16];
	uint32_t batch = BATCHES[0];
	for (double seconds; fflush(stdout), scanf("%15s", wish) == 1;) {
		if (!strcmp(wish, "answers"))
			answers(&each);
		else if (!strcmp(wish, "tune"))
			batch = tune(&trace);
		else if (!strcmp(wish, "round") && scanf("%lf", &seconds) == 1)
			run_round(&trace, batch, seconds);
		else
			die("no such wish: %s", wish);
	}
	return 0;
}
