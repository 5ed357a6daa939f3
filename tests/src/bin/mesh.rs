//! Prints the table of methods that the mesh configuration is made from: `make mesh` writes it to `istio/files/methods.yaml`.

fn main() {
    print!("{}", flaghoist_tests::mesh::table());
}
