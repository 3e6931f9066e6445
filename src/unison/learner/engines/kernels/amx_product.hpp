// Products of float32 matrices on the matrix unit (AMX) of x86 processors, which multiplies bfloat16 numbers.
//
// Every number is split into three bfloat16 parts that together hold all of its 24 bits. Of the nine products of parts
// the six largest are summed, in float32; the others are smaller than what float32 rounds away. So nothing is lost:
// the result is as close to the exact one as that of float32 arithmetic (Henry, Tang, Heinecke: "Leveraging the
// bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations", 2019, section 2). Only
// bits that stand for less than 1e-38 are lost. Where there are infinite numbers, whose parts say nothing, or such as
// would be rounded to infinity, the product is computed once more, one number after another.
//
// With UNISON_PARTS=1, numbers are rounded to bfloat16 instead; one product is all, and infinity needs no care.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

#include "matrix.hpp"

namespace unison {

using Part = std::uint16_t;  // the bits of a bfloat16

#ifndef UNISON_PARTS
#define UNISON_PARTS 3
#endif
constexpr Index PARTS = UNISON_PARTS;
constexpr Index DEPTH = 2 * TILE;            // the products of numbers that one instruction sums: two in each word
constexpr Index SHEET = TILE * DEPTH;        // numbers of a tile
constexpr Index CELL = PARTS * SHEET;        // a packed tile: a sheet for each part, the leading ones first
constexpr Index BLOCK = 2 * TILE;            // rows and columns of the result that the registers hold
// What is packed at once: a left panel of 96 KiB at most and a right one of 384 KiB, which stay in the second cache.
constexpr Index PANEL_DEPTH = 4 * DEPTH, PANEL_HEIGHT = 4 * BLOCK, PANEL_WIDTH = 16 * BLOCK;

// Asks the system for the matrix unit's registers, once per process; whether it gives them.
inline bool is_allowed() {
    constexpr long request_permission = 0x1023, tile_data = 18;  // of Linux's <asm/prctl.h>
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

struct alignas(64) TileShapes {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE};
};

struct Workspace {
    alignas(64) Part left[PANEL_HEIGHT * PANEL_DEPTH * PARTS];
    alignas(64) Part right[PANEL_DEPTH * PANEL_WIDTH * PARTS];
    alignas(64) float edge[BLOCK * BLOCK];
};

// The larger magnitude of each pair, as an integer: in the order of the numbers.
inline __m512i larger(__m512i magnitudes, __m512 x) {
    return _mm512_max_epu32(magnitudes, _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF)));
}

// Whether bfloat16 has a finite number next to each.
inline bool have_parts(__m512i magnitudes) {
    return _mm512_cmpge_epu32_mask(magnitudes, _mm512_set1_epi32(0x7F7F8000)) == 0;
}

// Takes from x its leading bits, rounded to a bfloat16: the upper half of the word.
inline __m512i take_part(__m512& x) {
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(0xFFFF0000);
    const __m512i part = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(part));
    return part;
}

// Words of two bfloat16: the upper half of `low`, and above it the upper half of `high`.
inline __m512i paired(__m512i low, __m512i high) {
    constexpr int first_or_second_where_third = 0xF8;
    const __m512i upper = _mm512_set1_epi32(0xFFFF0000);
    return _mm512_ternarylogic_epi32(_mm512_srli_epi32(low, 16), high, upper, first_or_second_where_third);
}

// A packed tile of two squares, or of their transposes: a word holds a number of `one` and its neighbour of `other`.
// Returns whether all numbers have parts.
template <bool is_turned>
inline bool pack(const Window& one, const Window& other, Part* cell) {
    __m512 low[TILE], high[TILE];
    load(one, low);
    load(other, high);
    if (is_turned) transpose(low), transpose(high);
    __m512i largest = _mm512_setzero_si512();
    for (Index row = 0; row < TILE; ++row, cell += DEPTH) {
        __m512 a = low[row], b = high[row];
        if constexpr (PARTS == 1) {
            _mm512_store_si512(cell, rounded_pairs(a, b));
            continue;
        }
        largest = larger(larger(largest, a), b);
        _mm512_store_si512(cell, paired(take_part(a), take_part(b)));
        _mm512_store_si512(cell + SHEET, paired(take_part(a), take_part(b)));
        _mm512_store_si512(cell + 2 * SHEET, paired(_mm512_castps_si512(a), _mm512_castps_si512(b)));
    }
    return have_parts(largest);
}

// Packs `tiles` times `cells` tiles; those of one tile lie one after another. Memory is read along its rows.
template <typename PackTile>
inline bool pack_panel(bool is_along_depth, Index tiles, Index cells, Part* panel, const PackTile& pack_tile) {
    const Index count = tiles * cells;
    bool is_whole = true;
    for (Index n = 0; n < count; ++n) {
        const Index tile = is_along_depth ? n / cells : n % tiles, cell = is_along_depth ? n % cells : n / tiles;
        is_whole &= pack_tile(tile * TILE, cell * DEPTH, panel + (tile * cells + cell) * CELL);
    }
    return is_whole;
}

// The rows [row, row + height) of a left matrix: word w of a tile's row r holds its columns w and w + 16.
inline bool pack_left(const Matrix& a, Index row, Index column, Index height, Index cells, Part* panel) {
    const Index tiles = round_up(height, BLOCK) / TILE;
    return pack_panel(!a.is_transposed, tiles, cells, panel, [&](Index i, Index k, Part* cell) {
        const Window window = a.from(row + i, column + k);
        return a.is_transposed ? pack<true>(window, window.from(TILE, 0), cell)
                               : pack<false>(window, window.from(0, TILE), cell);
    });
}

// The columns [column, column + width) of a right matrix: word w of a tile's row r holds rows r and r + 16 of column w.
inline bool pack_right(const Matrix& b, Index row, Index column, Index width, Index cells, Part* panel) {
    const Index tiles = round_up(width, BLOCK) / TILE;
    return pack_panel(b.is_transposed, tiles, cells, panel, [&](Index j, Index k, Part* cell) {
        const Window window = b.from(row + k, column + j);
        return b.is_transposed ? pack<true>(window, window.from(0, TILE), cell)
                               : pack<false>(window, window.from(TILE, 0), cell);
    });
}

// Registers 0 to 3 hold a block of the result, 4 and 5 tiles of the left, one above the other, 6 and 7 of the right.
#define UNISON_LOAD_LEFT(sheet)                                       \
    _tile_loadd(4, left + k * CELL + (sheet) * SHEET, 64);            \
    _tile_loadd(5, left + (cells + k) * CELL + (sheet) * SHEET, 64)
#define UNISON_LOAD_RIGHT(sheet)                                      \
    _tile_loadd(6, right + k * CELL + (sheet) * SHEET, 64);           \
    _tile_loadd(7, right + (cells + k) * CELL + (sheet) * SHEET, 64)
#define UNISON_MULTIPLY      \
    _tile_dpbf16ps(0, 4, 6); \
    _tile_dpbf16ps(1, 4, 7); \
    _tile_dpbf16ps(2, 5, 6); \
    _tile_dpbf16ps(3, 5, 7)

// c [32, 32] += left [32, 32 * cells] @ right [32 * cells, 32]; small products first, or they would be rounded away.
inline void multiply(const Part* left, const Part* right, Index cells, float* c, Index stride, bool is_first) {
    float* const below = c + TILE * stride;
    if (is_first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, c, stride * 4);
        _tile_loadd(1, c + TILE, stride * 4);
        _tile_loadd(2, below, stride * 4);
        _tile_loadd(3, below + TILE, stride * 4);
    }
    for (Index k = 0; PARTS == 3 && k < cells; ++k) {
        UNISON_LOAD_LEFT(0);
        UNISON_LOAD_RIGHT(2);
        UNISON_MULTIPLY;
        UNISON_LOAD_RIGHT(1);
        UNISON_MULTIPLY;
        UNISON_LOAD_LEFT(1);
        UNISON_MULTIPLY;
        UNISON_LOAD_RIGHT(0);
        UNISON_MULTIPLY;
        UNISON_LOAD_LEFT(2);
        UNISON_MULTIPLY;
    }
    for (Index k = 0; k < cells; ++k) {
        UNISON_LOAD_LEFT(0);
        UNISON_LOAD_RIGHT(0);
        UNISON_MULTIPLY;
    }
    _tile_stored(0, c, stride * 4);
    _tile_stored(1, c + TILE, stride * 4);
    _tile_stored(2, below, stride * 4);
    _tile_stored(3, below + TILE, stride * 4);
}

// The same for a block of which only `rows` and `columns` exist, beside the result.
inline void multiply_edge(const Part* left, const Part* right, Index cells, float* c, Index stride, Index rows,
                          Index columns, bool is_first, float* edge) {
    if (!is_first)
        for (Index i = 0; i < rows; ++i) std::copy_n(c + i * stride, columns, edge + i * BLOCK);
    multiply(left, right, cells, edge, BLOCK, is_first);
    for (Index i = 0; i < rows; ++i) std::copy_n(edge + i * BLOCK, columns, c + i * stride);
}

// c [height, width] += the product of the panels in `work`.
inline void multiply_panels(Workspace& work, Index cells, float* c, Index stride, Index height, Index width,
                            bool is_first) {
    for (Index i = 0; i < height; i += BLOCK)
        for (Index j = 0; j < width; j += BLOCK) {
            const Part *left = work.left + i / TILE * cells * CELL, *right = work.right + j / TILE * cells * CELL;
            const Index rows = std::min(BLOCK, height - i), columns = std::min(BLOCK, width - j);
            float* const block = c + i * stride + j;
            if (rows == BLOCK && columns == BLOCK)
                multiply(left, right, cells, block, stride, is_first);
            else
                multiply_edge(left, right, cells, block, stride, rows, columns, is_first, work.edge);
        }
}

// The product by float32 arithmetic: slow, and right for infinite numbers too.
inline void product_one_by_one(const Matrix& a, const Matrix& b, float* c) {
    for (Index i = 0; i < a.rows(); ++i)
        for (Index j = 0; j < b.columns(); ++j) {
            float sum = 0;
            for (Index k = 0; k < a.columns(); ++k) sum += *a.from(i, k).data * *b.from(k, j).data;
            c[i * b.columns() + j] = sum;
        }
}

// c [a.rows(), b.columns()] = a @ b, by the calling thread. Static, or libraries of other units would share its memory.
static void product(const Matrix& a, const Matrix& b, float* c) {
    thread_local const auto work = std::make_unique<Workspace>();
    const TileShapes shapes;
    const Index stride = b.columns();
    bool is_whole = true;
    if (a.columns() == 0) std::fill_n(c, a.rows() * stride, 0.0f);
    _tile_loadconfig(&shapes);
    for (Index k = 0; k < a.columns(); k += PANEL_DEPTH) {
        const Index cells = round_up(std::min(PANEL_DEPTH, a.columns() - k), DEPTH) / DEPTH;
        for (Index j = 0; j < b.columns(); j += PANEL_WIDTH) {
            const Index width = std::min(PANEL_WIDTH, b.columns() - j);
            is_whole &= pack_right(b, k, j, width, cells, work->right);
            for (Index i = 0; i < a.rows(); i += PANEL_HEIGHT) {
                const Index height = std::min(PANEL_HEIGHT, a.rows() - i);
                is_whole &= pack_left(a, i, k, height, cells, work->left);
                multiply_panels(*work, cells, c + i * stride + j, stride, height, width, k == 0);
            }
        }
    }
    _tile_release();
    if (!is_whole) product_one_by_one(a, b, c);
}

#undef UNISON_LOAD_LEFT
#undef UNISON_LOAD_RIGHT
#undef UNISON_MULTIPLY

}  // namespace unison
