/** What somebody typed, or where they typed it, is not right: one sentence, and what to do. Exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
