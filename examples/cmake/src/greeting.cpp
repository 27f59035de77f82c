#include "greeting/greeting.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>

namespace {

const std::map<std::string_view, std::string_view> words = {
    {"de", "Guten Tag"}, {"en", "Hello"}, {"fr", "Bonjour"}, {"pl", "Dzień dobry"},
};

}  // namespace

size_t greeting(const char *language, const char *name, char *text, size_t size) {
    const auto found = words.find(language);
    if (found == words.end()) return 0;
    const std::string whole = std::string(found->second) + ", " + name + "!";
    if (size > 0) {
        const size_t count = std::min(size - 1, whole.size());
        std::copy_n(whole.data(), count, text);
        text[count] = '\0';
    }
    return whole.size();
}
