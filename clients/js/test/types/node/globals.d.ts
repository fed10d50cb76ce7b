// What the types of Node 20 declare, of what the client's declarations name: there is no DOM.
declare class AbortSignal {}
declare class URL {}
declare class Headers {}
declare function fetch(url: string | URL): Promise<unknown>;
