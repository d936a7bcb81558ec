import { engineProxies } from './engine-proxies.ts';
import { peerInterop } from './interop.ts';

peerInterop(engineProxies);
