/** The measurement could not be made: what failed, in a sentence. Exit code 1. */
export class BenchError extends Error {
  override readonly name = 'BenchError';
}
