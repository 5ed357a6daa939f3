//! Tests against real servers. Each promise of the design has one that is named after it (`promise_…`), as have the faults
//! that other systems met (`fault_…`) and the requests that must be refused (`case_…`).
