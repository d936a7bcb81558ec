import { messageOf } from '../errors/index.ts';

/** Why something ended that was about to call a callback, or was called by one, when that threw. */
export function describeThrown(error: unknown): string {
  return `a callback threw: ${messageOf(error)}`;
}
