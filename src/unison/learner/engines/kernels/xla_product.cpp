// The product as a call that a program of XLA makes; its threads are XLA's.
#include "float32_product.hpp"

#include <atomic>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace {

using unison::Index;
using unison::Matrix;
namespace ffi = xla::ffi;

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

ffi::Error multiply(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> left, ffi::Buffer<ffi::F32> right,
                    ffi::ResultBuffer<ffi::F32> result, bool left_is_transposed, bool right_is_transposed) {
    const auto matrix = [](const ffi::Buffer<ffi::F32>& buffer, bool is_transposed) {
        const auto lengths = buffer.dimensions();
        return Matrix{{buffer.typed_data(), lengths[1], lengths[0], lengths[1]}, is_transposed};
    };
    const Matrix a = matrix(left, left_is_transposed), b = matrix(right, right_is_transposed);
    float* const c = result->typed_data();
    const Index work = a.rows() * a.columns() * b.columns();
    const Index threads = std::clamp<Index>(work / WORTH_A_THREAD, 1, std::max<Index>(pool.num_threads(), 1));
    const Index height = unison::round_up((a.rows() + threads - 1) / threads, unison::BLOCK);
    const auto pieces = std::make_shared<Pieces>((a.rows() + height - 1) / height);
    const auto piece_of_product = [=](Index piece) {
        const Index start = piece * height, stop = std::min(a.rows(), start + height);
        unison::product(a.rows_between(start, stop), b, c + start * b.columns());
    };
    for (Index helper = 1; helper < pieces->count; ++helper)
        pool.Schedule([=] { pieces->help(piece_of_product); });
    pieces->help(piece_of_product);
    while (pieces->done.load() < pieces->count) std::this_thread::yield();
    return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(unison_product, multiply,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("left_is_transposed")
                                  .Attr<bool>("right_is_transposed"));

extern "C" bool unison_request_tiles() { return unison::request_tiles(); }
