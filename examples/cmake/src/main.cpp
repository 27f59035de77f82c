// greet LANGUAGE NAME
#include "greeting/greeting.h"

#include <iostream>
#include <string>

int main(int count, char **arguments) {
    if (count != 3) {
        std::cerr << "usage: greet LANGUAGE NAME\n";
        return 2;
    }
    const size_t size = greeting(arguments[1], arguments[2], nullptr, 0);
    if (size == 0) {
        std::cerr << "greet: no greeting in the language " << arguments[1] << "; known: de, en, fr, pl\n";
        return 1;
    }
    std::string text(size + 1, '\0');
    greeting(arguments[1], arguments[2], text.data(), text.size());
    text.resize(size);
    std::cout << text << std::endl;
    return std::cout ? 0 : 1;
}
