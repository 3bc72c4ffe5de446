// The 2-2-1 network on XOR by hand, for comparison: full-batch gradient descent on the mean squared error, sixteen
// members in each vector, four vectors at once, all in registers, the patterns' zeros and ones written out, on all
// threads that are asked for. Prints net-steps per second and, to show that it learns, the mean loss at the end.
//
//     gcc -O3 -march=native -pthread avx512.c -o avx512 -lm && ./avx512 MEMBERS EPOCHS THREADS

#include <immintrin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef __m512 V;
enum { LANES = 16, AT_ONCE = 4, PARAMS = 9 };

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS V set(float x) { return _mm512_set1_ps(x); }
ALWAYS V mul(V a, V b) { return _mm512_mul_ps(a, b); }
ALWAYS V add(V a, V b) { return _mm512_add_ps(a, b); }
ALWAYS V fmadd(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
ALWAYS V fnmadd(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }

// exp to about an ulp: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]; scalef over- and underflows as it should.
ALWAYS V exponential(V x) {
  V n = _mm512_roundscale_ps(mul(x, set(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  V r = fnmadd(n, set(1.42860677e-06f), fnmadd(n, set(0.693145752f), x));
  V p = fmadd(fmadd(fmadd(fmadd(fmadd(set(1.3981999e-3f), r, set(8.3334519e-3f)), r, set(4.1665795e-2f)), r, set(1.6666666e-1f)),
            r, set(0.5f)), mul(r, r), add(r, set(1.0f)));
  return _mm512_scalef_ps(p, n);
}

ALWAYS V sigmoid(V z) {
  return _mm512_div_ps(set(1.0f), add(set(1.0f), exponential(_mm512_sub_ps(_mm512_setzero_ps(), z))));
}

ALWAYS V slope(V s, V g) { return mul(g, fnmadd(s, s, s)); }  // g s (1 - s)

// One epoch of one vector. p: kernel of the hidden layer by rows, its biases, kernel and bias of the output.
ALWAYS V epoch(V p[PARAMS], V rate) {
  const float target[4] = {0, 1, 1, 0};
  V g[PARAMS], loss = _mm512_setzero_ps();
  for (int k = 0; k < PARAMS; k++) g[k] = _mm512_setzero_ps();
  for (int row = 0; row < 4; row++) {
    int a = row >> 1, b = row & 1;
    V h[2];
    for (int j = 0; j < 2; j++) {
      V z = p[4 + j];
      if (a) z = add(z, p[j]);
      if (b) z = add(z, p[2 + j]);
      h[j] = sigmoid(z);
    }
    V y = sigmoid(fmadd(h[1], p[7], fmadd(h[0], p[6], p[8])));
    V error = _mm512_sub_ps(y, set(target[row]));
    loss = fmadd(error, error, loss);
    V d = slope(y, mul(error, set(0.5f)));
    g[6] = fmadd(d, h[0], g[6]), g[7] = fmadd(d, h[1], g[7]), g[8] = add(g[8], d);
    for (int j = 0; j < 2; j++) {
      V e = slope(h[j], mul(d, p[6 + j]));
      g[4 + j] = add(g[4 + j], e);
      if (a) g[j] = add(g[j], e);
      if (b) g[2 + j] = add(g[2 + j], e);
    }
  }
  for (int k = 0; k < PARAMS; k++) p[k] = fnmadd(rate, g[k], p[k]);
  return mul(loss, set(0.25f));
}

typedef struct {
  long first, last, epochs;
  double loss;
} Work;

static void *train(void *argument) {
  Work *work = argument;
  work->loss = 0;
  for (long member = work->first; member < work->last; member += LANES * AT_ONCE) {
    float start[AT_ONCE][PARAMS][LANES];
    unsigned seed = (unsigned)member + 1;
    for (float *x = &start[0][0][0]; x < &start[0][0][0] + AT_ONCE * PARAMS * LANES; x++)
      *x = (float)rand_r(&seed) / (float)RAND_MAX * 2 - 1;
    V p[AT_ONCE][PARAMS], loss[AT_ONCE];
    for (int v = 0; v < AT_ONCE; v++)
      for (int k = 0; k < PARAMS; k++) p[v][k] = _mm512_loadu_ps(start[v][k]);
    for (long e = 0; e < work->epochs; e++)
      for (int v = 0; v < AT_ONCE; v++) loss[v] = epoch(p[v], set(0.01f));
    for (int v = 0; v < AT_ONCE; v++) work->loss += _mm512_reduce_add_ps(loss[v]);
  }
  return NULL;
}

int main(int count, char **arguments) {
  if (count != 4) return fprintf(stderr, "usage: avx512 MEMBERS EPOCHS THREADS\n"), 2;
  long members = atol(arguments[1]), epochs = atol(arguments[2]), threads = atol(arguments[3]);
  long step = LANES * AT_ONCE, share = (members / threads + step - 1) / step * step;
  pthread_t *running = calloc((size_t)threads, sizeof *running);
  Work *works = calloc((size_t)threads, sizeof *works);
  struct timespec begun, ended;
  clock_gettime(CLOCK_MONOTONIC, &begun);
  for (long t = 0; t < threads; t++) {
    works[t] = (Work){t * share, (t + 1) * share, epochs, 0};
    pthread_create(&running[t], NULL, train, &works[t]);
  }
  double loss = 0;
  for (long t = 0; t < threads; t++) pthread_join(running[t], NULL), loss += works[t].loss;
  clock_gettime(CLOCK_MONOTONIC, &ended);
  double seconds = (double)(ended.tv_sec - begun.tv_sec) + 1e-9 * (double)(ended.tv_nsec - begun.tv_nsec);
  printf("%.6g %.6g\n", (double)(share * threads * epochs) / seconds, loss / (double)(share * threads));
  return 0;
}
