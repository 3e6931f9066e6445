// The sum over the ranks of one machine as a call that a program of XLA makes.
//
// It takes turns as learner_group/collectives/shared_memory.py says, with whatever the other ranks run. What needs more
// than that (a rank that is late or comes for something else, buffers that are too small, a program that is only tried)
// is left to Python, which takes the same turn from its beginning.
#include <sched.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "xla/ffi/api/ffi.h"

#if defined(__x86_64__)
#define FOR_EACH_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_WIDTH
#endif

namespace {

using Index = std::int64_t;
namespace ffi = xla::ffi;

constexpr int SPINS = 4096;                                      // without giving way to others: some 50 us
constexpr auto PATIENCE = std::chrono::milliseconds(2);          // until Python waits in its place
constexpr Index GROUP = 1 << 8;                                  // numbers at once: they stay in the first cache
constexpr Index AHEAD = 2 * GROUP;                               // so much earlier they are asked for
constexpr Index LINE = 16;                                       // numbers that come together
constexpr int STREAMED = 64;                                     // vectors that are streamed before another is copied
constexpr std::chrono::nanoseconds SLOW{8};                      // for a line: what is near takes 2, what is far 20

struct SharedBuffers {  // of learner/shared_buffers.py
    Index rank, world_size;
    Index* words;
    Index line, turn, arrived, bytes, size;
    float* const* buffers;

    Index* line_of(Index number) const { return words + (1 + number) * line; }
};

// A stretch of the vector that is summed: where it lies there, and where in the program's memory.
struct Stretch {
    Index start, count;
    const float* given;
    float* sum;
};

std::mutex guard;
std::unordered_map<Index, const SharedBuffers*> attached;  // by the number of the collective
void (*python)(Index number, float* vector, Index count);  // the sum as Python makes it, in place

// Ask for numbers from `begin` to before `end`. What another core has used last comes from there, which takes long, and
// processors by themselves ask for too little of it at once: so a copy takes less than half the time.
void will_read(const float* numbers, Index begin, Index end) {
    for (Index i = begin; i < end; i += LINE) __builtin_prefetch(numbers + i);
}

void will_write(float* numbers, Index begin, Index end) {
    for (Index i = begin; i < end; i += LINE)
#if defined(__x86_64__)
        asm volatile("prefetchw %0" : : "m"(numbers[i]));  // GCC takes it for named processors only
#else
        __builtin_prefetch(numbers + i, 1);
#endif
}

// In short stretches: for longer ones glibc takes an instruction that is slow on some processors (AMD's Zen 3 and 4).
void copy(const float* from, float* to, Index count) {
    for (Index done = 0; done < count; done += GROUP) {
        will_write(to, done + AHEAD, std::min(done + AHEAD + GROUP, count));
        std::memcpy(to + done, from + done, std::min(GROUP, count - done) * sizeof(float));
    }
}

// Past the caches: the lines need not be taken from the core that has read them.
void stream(const float* from, float* to, Index count) {
#if defined(__x86_64__)
    const Index head = std::min(count, Index(-(reinterpret_cast<std::uintptr_t>(to) / sizeof(float)) & 3));
    const Index end = head + ((count - head) & ~Index(3));
    std::copy_n(from, head, to);
    for (Index i = head; i < end; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
    std::copy_n(from + end, count - end, to + end);
#else
    copy(from, to, count);
#endif
}

// Writes the vector where the other ranks read it. Cores that share a cache give each other lines quickly, others ten
// times as slowly, and a virtual machine's may move from the one to the other: so it is copied while that is quick.
void lay_down(const std::vector<Stretch>& vector, float* buffer, Index count) {
    static std::atomic<int> streams{0};  // still to come
    if (streams.load(std::memory_order_relaxed) > 0) {
        streams.fetch_sub(1, std::memory_order_relaxed);
        for (const Stretch& part : vector) stream(part.given, buffer + part.start, part.count);
#if defined(__x86_64__)
        _mm_sfence();  // or others might see that it has arrived before it has
#endif
        return;
    }
    const auto start = std::chrono::steady_clock::now();
    for (const Stretch& part : vector) copy(part.given, buffer + part.start, part.count);
    if (std::chrono::steady_clock::now() - start > SLOW * (count / LINE + LINE)) streams = STREAMED;
}

FOR_EACH_WIDTH void add(const float* a, const float* b, float* sum, Index count) {
    for (Index i = 0; i < count; ++i) sum[i] = a[i] + b[i];
}

bool comes(const Index* word, Index turn) {
    const auto has_come = [=] { return __atomic_load_n(word, __ATOMIC_ACQUIRE) >= turn; };
    for (int spin = 0; spin < SPINS; ++spin) {
        if (has_come()) return true;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    const auto start = std::chrono::steady_clock::now();
    while (!has_come()) {
        if (std::chrono::steady_clock::now() - start > PATIENCE) return false;
        sched_yield();
    }
    return true;
}

// Lays the vector down and waits for the other ranks: the buffers of all, in order of rank; null if Python has to do it.
float* const* meet(const SharedBuffers& own, const std::vector<Stretch>& vector, Index count) {
    const Index size = count * Index(sizeof(float));
    if (size > own.size) return nullptr;
    Index* const line = own.line_of(own.rank);
    const Index turn = line[own.turn] + 1, parity = turn & 1;
    float* const* const buffers = own.buffers + parity * own.world_size;
    lay_down(vector, buffers[own.rank], count);
    line[own.bytes + parity] = size;
    __atomic_store_n(line + own.arrived, turn, __ATOMIC_RELEASE);
    for (Index rank = 0; rank < own.world_size; ++rank) {
        const Index* const other = own.line_of(rank);
        if (!comes(other + own.arrived, turn) || other[own.bytes + parity] != size) return nullptr;
    }
    line[own.turn] = turn;
    return buffers;
}

// Adds in order of rank, so that all ranks get the same bits.
void add_up(const SharedBuffers& own, float* const* buffers, const std::vector<Stretch>& vector) {
    for (const Stretch& part : vector) {
        for (Index done = 0; done < part.count; done += GROUP) {
            const Index place = part.start + done, count = std::min(GROUP, part.count - done);
            // The program's own numbers are nearer than the buffer's, until a sum is written over them.
            const auto numbers = [&](Index rank) {
                return rank == own.rank && rank < 2 ? part.given + done : buffers[rank] + place;
            };
            for (Index rank = 0; rank < own.world_size; ++rank)
                if (rank != own.rank)
                    will_read(buffers[rank], place + AHEAD, std::min(place + AHEAD + GROUP, part.start + part.count));
            add(numbers(0), numbers(1), part.sum + done, count);
            for (Index rank = 2; rank < own.world_size; ++rank)
                add(part.sum + done, numbers(rank), part.sum + done, count);
        }
    }
}

void add_up_in_python(Index number, const std::vector<Stretch>& vector, Index count) {
    std::vector<float> whole(count);
    for (const Stretch& part : vector) std::copy_n(part.given, part.count, whole.data() + part.start);
    python(number, whole.data(), count);
    for (const Stretch& part : vector) std::copy_n(whole.data() + part.start, part.count, part.sum);
}

// The pieces that a vector is in, and for each of its stretches, in their order: piece, start, end.
ffi::Error sum(ffi::RemainingArgs pieces, ffi::RemainingRets sums, Index number, ffi::Span<const Index> places) {
    std::vector<Stretch> vector;
    Index count = 0, before = 0;
    for (std::size_t i = 0; i < places.size(); i += 3) {
        const Index piece = places[i], start = places[i + 1], end = places[i + 2];
        if (i == 0 || piece != places[i - 3]) before = 0;
        const auto given = pieces.get<ffi::Buffer<ffi::F32>>(piece);
        auto result = sums.get<ffi::Buffer<ffi::F32>>(piece);
        if (!given || !result) return ffi::Error::InvalidArgument("a piece of a sum over ranks is not of float32");
        vector.push_back({start, end - start, given->typed_data() + before, (*result)->typed_data() + before});
        before += end - start;
        count += end - start;
    }
    const SharedBuffers* own = nullptr;
    {
        const std::lock_guard<std::mutex> lock(guard);
        if (const auto found = attached.find(number); found != attached.end()) own = found->second;
    }
    if (float* const* const buffers = own == nullptr ? nullptr : meet(*own, vector, count))
        add_up(*own, buffers, vector);
    else
        add_up_in_python(number, vector, count);
    return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(unison_sum, sum,
                              ffi::Ffi::Bind()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<Index>("number")
                                  .Attr<ffi::Span<const Index>>("places"));

extern "C" void unison_set_python(void (*function)(Index, float*, Index)) { python = function; }

// Sums of a collective may be made here from now on; or, without buffers, no longer.
extern "C" void unison_attach(Index number, const SharedBuffers* buffers) {
    const std::lock_guard<std::mutex> lock(guard);
    if (buffers == nullptr)
        attached.erase(number);
    else
        attached[number] = buffers;
}
