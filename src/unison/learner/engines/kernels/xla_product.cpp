// The product as a call that a program of XLA makes; its threads are XLA's.
#ifdef __AMX_BF16__
#include "amx_product.hpp"
#else
#include "avx512_product.hpp"
#endif

#include <atomic>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace {

using unison::Index;
using unison::Matrix;
namespace ffi = xla::ffi;
using Buffer = ffi::Buffer<ffi::F32>;

constexpr Index WORTH_A_THREAD = Index(1) << 20;  // multiplications: about 10 us

// Pieces of work, which whoever comes takes; so nobody waits for a thread that has not begun.
struct Pieces {
    const Index count;
    std::atomic<Index> taken{0}, done{0};

    explicit Pieces(Index count) : count(count) {}

    template <typename Work>
    void help(const Work& work) {
        for (Index piece; (piece = taken.fetch_add(1)) < count; done.fetch_add(1)) work(piece);
    }
};

// The product, or as many as there are matrices along the axes before the last two.
ffi::Error multiply(ffi::ThreadPool pool, Buffer left, Buffer right, ffi::Result<Buffer> result,
                    bool left_is_transposed, bool right_is_transposed, bool is_rounded) {
    const auto matrix = [](const Buffer& buffer, bool is_transposed, Index number) {
        const auto lengths = buffer.dimensions();
        const Index rows = lengths[lengths.size() - 2], columns = lengths[lengths.size() - 1];
        return Matrix{{buffer.typed_data() + number * rows * columns, columns, rows, columns}, is_transposed};
    };
    const Matrix first = matrix(left, left_is_transposed, 0);
    const Index rows = first.rows(), columns = result->dimensions().back();
    const Index products = result->element_count() / std::max<Index>(rows * columns, 1);
    const Index work = products * rows * first.columns() * columns;
    const Index threads = std::clamp<Index>(work / WORTH_A_THREAD, 1, std::max<Index>(pool.num_threads(), 1));
    const Index shares = (threads + products - 1) / products;  // of a product
    const Index height = unison::round_up((rows + shares - 1) / shares, unison::BLOCK);
    const Index in_each = (rows + height - 1) / height;
    const auto pieces = std::make_shared<Pieces>(products * in_each);
    float* const results = result->typed_data();
    const auto piece_of_product = [=](Index piece) {
        const Index number = piece / in_each, start = piece % in_each * height, stop = std::min(rows, start + height);
        const Matrix a = matrix(left, left_is_transposed, number), b = matrix(right, right_is_transposed, number);
        float* const result = results + (number * rows + start) * columns;
        unison::product(a.rows_between(start, stop), b, result);
        if (is_rounded) unison::round(result, (stop - start) * columns);
    };
    for (Index helper = 1; helper < std::min(threads, pieces->count); ++helper)
        pool.Schedule([=] { pieces->help(piece_of_product); });
    pieces->help(piece_of_product);
    while (pieces->done.load() < pieces->count) std::this_thread::yield();
    return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(unison_product, multiply,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Attr<bool>("left_is_transposed")
                                  .Attr<bool>("right_is_transposed")
                                  .Attr<bool>("is_rounded"));

extern "C" bool unison_is_allowed() { return unison::is_allowed(); }
