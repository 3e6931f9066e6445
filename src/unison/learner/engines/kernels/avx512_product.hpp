// Products of float32 matrices that are rounded to bfloat16, summed in float32, by the instructions of AVX-512 for that.
//
// Two neighbours along the inner length make a word of 32 bits. One instruction multiplies a word of the left matrix
// with sixteen of the right one, and adds both products of each to sixteen sums. So both matrices are packed into panels
// of sixteen rows or columns, and a square of sums stays in the registers all along the inner length.
#pragma once

#include <vector>

#include "matrix.hpp"

namespace unison {

constexpr Index BLOCK = TILE;              // rows and columns of the result that the registers hold
constexpr Index PACKED_AT_ONCE = 1 << 13;  // registers: 512 KiB of the right matrix, which stay in the second cache

// These instructions need nobody's leave.
inline bool is_allowed() { return true; }

// The columns [column, column + 16) of a matrix: word w of register d holds rows 2d and 2d + 1 of column w.
inline void pack(const Matrix& a, Index column, Index depth, __m512i* panel) {
    const Window window = a.from(0, column);
    __m512 square[TILE];
    if (a.is_transposed)
        for (Index d = 0; d < depth; d += TILE) {
            __m512 rest[TILE];
            load(window.from(0, 2 * d), square);
            load(window.from(0, 2 * d + TILE), rest);
#pragma GCC unroll 16
            for (Index row = 0; row < TILE; ++row) square[row] = (__m512)_mm512_cvtne2ps_pbh(rest[row], square[row]);
            transpose(square);
#pragma GCC unroll 16
            for (Index row = 0; row < TILE; ++row) panel[d + row] = _mm512_castps_si512(square[row]);
        }
    else
        for (Index d = 0; d < depth; d += TILE / 2) {
            load(window.from(2 * d, 0), square);
#pragma GCC unroll 8
            for (Index row = 0; row < TILE / 2; ++row)
                panel[d + row] = rounded_pairs(square[2 * row], square[2 * row + 1]);
        }
}

// c [rows, columns], at most [16, 16], = the product of two panels.
inline void multiply(const __m512i* left, const __m512i* right, Index depth, float* c, Index stride, Index rows,
                     Index columns) {
    __m512 sums[TILE];
#pragma GCC unroll 16
    for (Index row = 0; row < TILE; ++row) sums[row] = _mm512_setzero_ps();
    const auto* words = reinterpret_cast<const std::uint32_t*>(left);
    for (Index d = 0; d < depth; ++d, words += TILE)
#pragma GCC unroll 16
        for (Index row = 0; row < TILE; ++row)
            sums[row] = _mm512_dpbf16_ps(sums[row], (__m512bh)_mm512_set1_epi32(words[row]), (__m512bh)right[d]);
    const __mmask16 is_inside = first(columns);
#pragma GCC unroll 16
    for (Index row = 0; row < TILE; ++row)
        if (row < rows) _mm512_mask_storeu_ps(c + row * stride, is_inside, sums[row]);
}

// c [a.rows(), b.columns()] = a @ b, by the calling thread. Static, or libraries of other units would share its memory.
static void product(const Matrix& a, const Matrix& b, float* c) {
    thread_local std::vector<__m512i> memory;
    const Index depth = (a.columns() + 1) / 2, length = round_up(depth, TILE), columns = b.columns();
    const Index panels = std::clamp<Index>(PACKED_AT_ONCE / std::max<Index>(length, 1), 1, (columns + TILE - 1) / TILE);
    memory.resize(std::max<std::size_t>(memory.size(), (panels + 1) * length));
    __m512i *const left = memory.data(), *const right = left + length;
    for (Index start = 0; start < columns; start += panels * TILE) {
        const Index width = std::min(panels * TILE, columns - start);
        for (Index j = 0; j < width; j += TILE) pack(b, start + j, depth, right + j / TILE * length);
        for (Index i = 0; i < a.rows(); i += TILE) {
            pack(a.transposed(), i, depth, left);
            for (Index j = 0; j < width; j += TILE)
                multiply(left, right + j / TILE * length, depth, c + i * columns + start + j, columns, a.rows() - i,
                         width - j);
        }
    }
}

}  // namespace unison
