// Float32 matrices in memory, and squares of them in registers of AVX-512.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

namespace unison {

using Index = std::int64_t;

constexpr Index TILE = 16;  // words of 32 bits in a register, and registers in a square

// A part of a matrix in memory, whose rows lie one after another.
struct Window {
    const float* data;
    Index stride, rows, columns;

    Window from(Index row, Index column) const {
        return {data + row * stride + column, stride, rows - row, columns - column};
    }
};

struct Matrix {
    Window memory;
    bool is_transposed;  // the matrix is the transpose of what lies in memory

    Index rows() const { return is_transposed ? memory.columns : memory.rows; }
    Index columns() const { return is_transposed ? memory.rows : memory.columns; }
    Window from(Index row, Index column) const {
        return is_transposed ? memory.from(column, row) : memory.from(row, column);
    }
    Matrix transposed() const { return {memory, !is_transposed}; }
    Matrix rows_between(Index start, Index stop) const {
        Matrix part{from(start, 0), is_transposed};
        (is_transposed ? part.memory.columns : part.memory.rows) = stop - start;
        return part;
    }
};

inline Index round_up(Index length, Index grain) { return (length + grain - 1) / grain * grain; }

// A mask of the first `count` words.
inline __mmask16 first(Index count) { return count >= TILE ? 0xFFFF : (1u << std::max<Index>(count, 0)) - 1; }

// The first square of a window, zero outside of it.
inline void load(const Window& window, __m512 square[TILE]) {
    const __mmask16 is_inside = first(window.columns);
#pragma GCC unroll 16
    for (Index row = 0; row < TILE; ++row)
        square[row] = _mm512_maskz_loadu_ps(row < window.rows ? is_inside : 0, window.data + row * window.stride);
}

// Words of two numbers rounded to bfloat16: one of `low`, and above it that of `high`.
inline __m512i rounded_pairs(__m512 low, __m512 high) {
    const __m256i below = (__m256i)_mm512_cvtneps_pbh(low), above = (__m256i)_mm512_cvtneps_pbh(high);
    return _mm512_or_si512(_mm512_cvtepu16_epi32(below), _mm512_slli_epi32(_mm512_cvtepu16_epi32(above), 16));
}

// Rounds numbers to bfloat16, in place.
inline void round(float* numbers, Index count) {
    for (Index i = 0; i < count; i += TILE) {
        const __mmask16 is_inside = first(count - i);
        const __m256i bits = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(is_inside, numbers + i));
        _mm512_mask_storeu_epi32(numbers + i, is_inside, _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
}

inline void transpose(__m512 square[TILE]) {
    __m512 pairs[TILE], fours[TILE];
#pragma GCC unroll 8
    for (Index i = 0; i < TILE; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(square[i], square[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(square[i], square[i + 1]);
    }
#pragma GCC unroll 4
    for (Index i = 0; i < TILE; i += 4) {
        fours[i] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        fours[i + 1] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
        fours[i + 2] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        fours[i + 3] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (Index i = 0; i < 4; ++i) {
        const __m512 even_above = _mm512_shuffle_f32x4(fours[i], fours[4 + i], 0x88);
        const __m512 odd_above = _mm512_shuffle_f32x4(fours[i], fours[4 + i], 0xDD);
        const __m512 even_below = _mm512_shuffle_f32x4(fours[8 + i], fours[12 + i], 0x88);
        const __m512 odd_below = _mm512_shuffle_f32x4(fours[8 + i], fours[12 + i], 0xDD);
        square[i] = _mm512_shuffle_f32x4(even_above, even_below, 0x88);
        square[4 + i] = _mm512_shuffle_f32x4(odd_above, odd_below, 0x88);
        square[8 + i] = _mm512_shuffle_f32x4(even_above, even_below, 0xDD);
        square[12 + i] = _mm512_shuffle_f32x4(odd_above, odd_below, 0xDD);
    }
}

}  // namespace unison
